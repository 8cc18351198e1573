"""A convolution split in two: a depthwise one for space, a pointwise map for channels.

Shared by the families whose structure lies in the pointwise map. The depthwise convolution carries
kernel, stride, padding and dilation; a 1×1 convolution needs none, its stride is a slice. A grouped
convolution becomes one depthwise convolution and one ungrouped pointwise map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.cost import LayerCost, convolution_mult_adds, convolution_parameters
from seclcompress.substitutions.contract import CONVOLUTIONS, Convolution, StructuredConv
from seclcompress.substitutions.fitting import split_kernel
from seclcompress.substitutions.pointwise import Pointwise

_CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class DepthwisePointwise(StructuredConv):
    """Depthwise, then pointwise, nothing in between.

    Args:
        conv: The convolution to stand in for.
        pointwise: The map of the channels.
    """

    depthwise: Convolution | None

    def __init__(self, conv: Convolution, pointwise: Pointwise) -> None:
        super().__init__(conv)
        self.depthwise = None if is_pointwise(conv) else _new_depthwise(conv)
        self.pointwise = pointwise

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in_channels, *spatial) to (batch, out_channels, *output_size)."""
        dimensions = len(self.kernel_size)
        if x.dim() == dimensions + 1:  # torch's convolutions take one image without a batch, too
            return self.forward(x.unsqueeze(0)).squeeze(0)
        if self.depthwise is not None:
            x, stride = self.depthwise(x), (1,) * dimensions
        else:
            x, stride = self._padded(x), self.stride
        if self._runs_dense(x, stride) or x.numel() == 0:  # an FFT of nothing is an error
            weight = self.pointwise.scaled(self.pointwise.weight()).to(x.dtype)
            kernel = weight.reshape(*weight.shape, *[1] * dimensions)
            return _CONVOLVE[dimensions](x, kernel, self.pointwise.bias, stride=stride)
        if any(step != 1 for step in stride):
            every: tuple[Any, ...] = (..., *[slice(None, None, step) for step in stride])
            x = x[every]
        return self.pointwise.map_channels(x)

    def _padded(self, x: Tensor) -> Tensor:
        if isinstance(self.padding, str) or not any(self.padding):  # 'same' pads 1×1 by nothing
            return x
        sides = [side for side in reversed(self.padding) for _ in range(2)]
        return F.pad(x, sides, mode=_PAD_MODES.get(self.padding_mode, self.padding_mode))

    def _runs_dense(self, x: Tensor, stride: Sequence[int]) -> bool:
        if self.execution != "auto":
            return self.execution == "dense"
        if not self.training:
            return self.planned_execution == "dense"
        sizes = [-(-size // step) for size, step in zip(x.shape[2:], stride, strict=True)]
        positions = x.shape[0] * math.prod(sizes)
        return self.pointwise.quickest_in_training(positions) == "dense"

    def to_dense(self) -> nn.Module:
        """A depthwise convolution and a 1×1 one, or the one 1×1 convolution, as plain modules."""
        weight = self.pointwise.scaled(self.pointwise.dense_weight()).detach()
        alone = self.depthwise is None
        bias = self.pointwise.bias
        dense = CONVOLUTIONS[len(self.kernel_size)](
            self.in_channels,
            self.out_channels,
            1,
            stride=self.stride if alone else 1,  # type: ignore[arg-type]
            padding=self.padding if alone else 0,  # type: ignore[arg-type]
            padding_mode=self.padding_mode if alone else "zeros",
            bias=False,
            device="meta",  # what it would be initialised with is replaced
        )
        dense.weight = nn.Parameter(weight.reshape(dense.weight.shape).clone())
        if bias is not None:
            dense.bias = nn.Parameter(bias.detach().clone())
        if self.depthwise is None:
            return dense.train(self.training)
        space = _new_depthwise(self.depthwise)
        space.load_state_dict(self.depthwise.state_dict())
        return nn.Sequential(space, dense).train(self.training)

    def factors(self) -> list[nn.Parameter]:
        """The pointwise map's structured factors."""
        return self.pointwise.factors()

    def fit(self, conv: Convolution) -> float:
        """Takes over the nearest filters and, as far as the factors can, the nearest matrix."""
        space, matrix = split_kernel(conv)
        if self.depthwise is None:  # a grouped 1×1 convolution is a matrix with zeros
            return self.pointwise.fit(matrix * space.reshape(-1))
        with torch.no_grad():
            # The matrix keeps the size that it was initialised with, from where factors fit best.
            scale = self.pointwise.dense_weight().norm() / matrix.norm().clamp(min=1e-30)
            self.depthwise.weight.copy_(space / scale.clamp(min=1e-30))
            matrix = matrix * scale
        return self.pointwise.fit(matrix)

    def scale_outputs(self, scale: Tensor, shift: Tensor) -> bool:
        """Folds an affine map of each output channel into the pointwise map."""
        self.pointwise.scale_outputs(scale, shift)
        return True

    def products(self) -> list[Tensor]:
        """The pointwise map's matrix, if it is made from factors."""
        return [self.pointwise.product()] if self.factors() else []

    def keep_product(self, keep: bool) -> None:
        """Whether a forward pass in training keeps the matrix."""
        self.pointwise.keep_product(keep)


_PAD_MODES = {"zeros": "constant"}


def is_pointwise(conv: Convolution) -> bool:
    """Whether a convolution looks at one position at a time."""
    return all(size == 1 for size in conv.kernel_size)


def _new_depthwise(conv: Convolution) -> Convolution:
    """A depthwise convolution of `conv`'s geometry that keeps the variance of white input."""
    depthwise = CONVOLUTIONS[len(conv.kernel_size)](
        conv.in_channels,
        conv.in_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        dilation=conv.dilation,  # type: ignore[arg-type]
        groups=conv.in_channels,
        bias=False,
        padding_mode=conv.padding_mode,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    nn.init.normal_(depthwise.weight, std=1 / math.sqrt(math.prod(conv.kernel_size)))
    return depthwise


def white_gain(conv: Convolution) -> float:
    """The standard deviation of a convolution's outputs, per unit of white input, bias left out.

    That is `√(Σ w² ÷ out_channels)`: for a fresh layer what its own initialisation gives, for a
    trained one what the layers behind it are used to. A layer of zeros, and one on the meta device,
    get the value of torch's default initialisation, `√(1/3)`.
    """
    default = math.sqrt(1 / 3)
    if conv.weight.is_meta:
        return default
    energy = float(conv.weight.detach().double().square().sum()) / conv.out_channels
    return math.sqrt(energy) if energy > 0 else default


def split_cost(
    conv: Convolution,
    output_size: Sequence[int],
    parameters: int,
    dense: int,
    fast: int,
) -> LayerCost:
    """The cost of depthwise and pointwise together.

    Args:
        conv: The convolution that is replaced.
        output_size: Its spatial output size; the stride lies in the depthwise part, so the
            pointwise map works at the output's resolution.
        parameters: Those of the pointwise map, the bias left out.
        dense: Mult-Adds of the pointwise map's matrix at one position.
        fast: Mult-Adds of the pointwise map's transform at one position.
    """
    parameters += conv.out_channels if conv.bias is not None else 0
    space = 0
    if not is_pointwise(conv):
        c = conv.in_channels
        parameters += convolution_parameters(c, c, conv.kernel_size, c, bias=False)
        space = convolution_mult_adds(c, c, conv.kernel_size, c, output_size)
    positions = math.prod(output_size)
    return LayerCost(parameters, space + dense * positions, space + fast * positions)
