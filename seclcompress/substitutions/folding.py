"""Convolutions whose weight is made from parameters at every call, as plain convolutions.

Weight standardisation (BiT, NFNets), weight norm and spectral norm hand a weight of their own making to
torch's convolution, and do nothing else. A layer is recognised by that, not by its class.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from seclcompress.torch_private import ConvTransposeNd, computes_as, has_hooks, own_parameters

_CONVOLVE = (F.conv1d, F.conv2d, F.conv3d)
_KINDS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_DEFAULTS: dict[str, Any] = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}


def folded_weight(layer: nn.Module) -> Tensor | None:
    """The weight with which a plain convolution of the layer's geometry computes the same.

    Args:
        layer: Any module. It stays as it is.

    Returns:
        Shape (out_channels, in_channels ÷ groups, *kernel_size), detached; None if the layer is plain
        already, has hooks, does more than one convolution of its input, or its weight depends on it.
    """
    kind = next((k for k in _KINDS if isinstance(layer, k)), None)
    if kind is None or isinstance(layer, ConvTransposeNd) or has_hooks(layer):
        return None
    if computes_as(layer, kind) and "weight" in own_parameters(layer):
        return None
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    sides = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    some = next((p for p in layer.parameters() if p.is_floating_point()), None)
    if some is None:
        return None
    image = torch.zeros(
        1, layer.in_channels, *sides, dtype=some.dtype, device=some.device, requires_grad=True
    )
    modes = {module: module.training for module in layer.modules()}
    layer.eval()  # spectral norm changes its vectors in training
    try:
        with torch.enable_grad(), _Recording() as recorded:
            output = layer(image)
    except Exception:  # a class of somebody's own may want anything
        return None
    finally:
        for module, training in modes.items():
            module.training = training
    if len(recorded.calls) != 1:
        return None
    call, result = recorded.calls[0]
    weight = call["weight"]
    same = (
        call["input"] is image
        and result is output
        and call["bias"] is layer.bias
        and call["groups"] == layer.groups
        and all(
            _sides(call[name], len(sides)) == _sides(getattr(layer, name), len(sides))
            for name in ("stride", "padding", "dilation")
        )
        and tuple(weight.shape[2:]) == tuple(layer.kernel_size)
    )
    if not same:
        return None
    if weight.requires_grad:
        (slope,) = torch.autograd.grad(weight.sum(), image, allow_unused=True)
        if slope is not None:  # a dynamic convolution: the weight is made from the image
            return None
    return weight.detach()  # type: ignore[no-any-return]


def _sides(value: Any, dimensions: int) -> Any:
    if isinstance(value, int):
        return (value,) * dimensions
    return value if isinstance(value, str) else tuple(value)


class _Recording(TorchFunctionMode):
    """Records the calls of torch's convolutions, by argument name, with their results."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[dict[str, Any], Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in _CONVOLVE:
            given = dict(zip(_ARGUMENTS, args, strict=False))
            self.calls.append(({**_DEFAULTS, **given, **kwargs}, result))
        return result
