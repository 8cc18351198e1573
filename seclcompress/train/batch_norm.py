"""Batch norm over the images of all processes, and the re-estimation of running statistics.

torch's SyncBatchNorm runs on GPUs only; the one here uses the same formulas and runs on any device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from seclcompress.data import Images, Presentation
from seclcompress.rewrite import replace_module
from seclcompress.torch_private import BatchNorm, share_state
from seclcompress.trace import floating_dtype


class _SumOverProcesses(torch.autograd.Function):
    """Sums a tensor over all processes. The gradient is the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ARG004
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


class SynchronisedBatchNorm(nn.Module):
    """A batch norm whose mean and variance are taken over the images of all processes.

    Args:
        norm: The batch norm to replace; its parameters and buffers are shared with it.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, norm: BatchNorm) -> None:
        super().__init__()
        self.eps, self.momentum = norm.eps, norm.momentum
        share_state(self, norm)
        self.original = [norm]  # in a list, so that it is not registered as a submodule
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, channels, *spatial) to the same shape."""
        norm = self.original[0]
        if not self.training:
            norm.eval()
            return norm(x)  # type: ignore[no-any-return]
        over = [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        count = wide.new_full((1,), x.numel() // x.shape[1])
        sums: Tensor = _SumOverProcesses.apply(torch.cat([wide.sum(over), count]))
        mean, count = sums[:-1] / sums[-1].detach(), sums[-1].detach()
        centred = wide - mean.reshape(shape)
        squares: Tensor = _SumOverProcesses.apply(centred.square().sum(over))
        variance = squares / count
        with torch.no_grad():
            self._remember(norm, mean, squares / (count - 1).clamp(min=1))
        y = centred * torch.rsqrt(variance + self.eps).reshape(shape)
        if self.weight is not None and self.bias is not None:
            y = y * self.weight.reshape(shape) + self.bias.reshape(shape)
        return y.to(x.dtype)

    @staticmethod
    def _remember(norm: BatchNorm, mean: Tensor, variance: Tensor) -> None:
        if norm.running_mean is None or norm.running_var is None:
            return
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
        norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)


def synchronise(network: nn.Module) -> None:
    """Replaces all batch norms by synchronised ones, which share their parameters and buffers."""
    for module in list(network.modules()):
        # Subclasses are left alone, because they may do more than normalise.
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        if isinstance(module, BatchNorm) and type(module) in kinds:
            replace_module(network, module, SynchronisedBatchNorm(module))


def restore(network: nn.Module) -> None:
    """Puts torch's own batch norms back."""
    for module in list(network.modules()):
        if isinstance(module, SynchronisedBatchNorm):
            original = module.original[0].train(module.training)
            replace_module(network, module, original)


def estimate_anew(
    network: nn.Module, images: Images, presentation: Presentation, order: Sequence[Tensor]
) -> None:
    """Recomputes batch norm's running statistics from some training images and the current weights.

    Args:
        network: The network, changed in place; its mode is restored.
        images: The training images.
        presentation: How the images are shown.
        order: The indices of each batch's images.
    """
    dtype = floating_dtype(network)
    with torch.no_grad():
        update_bn((batch.images.to(dtype) for batch in images.read(order, presentation)), network)
