"""What runs in a fused network: a convolution split in two, a sum and ReLU as one module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seclcompress import kernel
from seclcompress.cost import convolution_output_size
from seclcompress.substitutions.shapes import SplitConv
from seclcompress.substitutions.shapes.depthwise import plain_depthwise
from seclcompress.torch_private import has_forward_hooks


class FusedConv(nn.Module):
    """A depthwise convolution, a 1×1 convolution behind it, or one of them, as one operator.

    Args:
        depthwise: The depthwise convolution, or None; as `is_depthwise` wants it.
        pointwise: The 1×1 convolution, or None; as `is_pointwise` wants it. Behind a depthwise one it
            has neither stride nor padding.
        relu: Whether ReLU follows.
    """

    filters: Tensor | None
    filter_bias: Tensor | None
    matrix: Tensor | None
    bias: Tensor | None

    def __init__(
        self, depthwise: nn.Conv2d | None, pointwise: nn.Conv2d | None, relu: bool = False
    ) -> None:
        super().__init__()
        first = depthwise or pointwise
        last = pointwise or depthwise
        assert first is not None
        assert last is not None
        self.in_channels, self.out_channels = first.in_channels, last.out_channels
        self.kernel_size, self.stride = first.kernel_size, first.stride
        self.padding, self.dilation = first.padding, first.dilation
        self.relu = relu
        filters = None if depthwise is None else depthwise.weight.detach()[:, 0].permute(1, 2, 0)
        self.register_buffer("filters", None if filters is None else filters.contiguous())
        self.register_buffer("filter_bias", _bias(depthwise))
        matrix = None if pointwise is None else pointwise.weight.detach().flatten(1)
        self.register_buffer("matrix", None if matrix is None else kernel.pack_matrix(matrix))
        self.register_buffer("bias", _bias(pointwise))

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Maps (batch, in_channels, rows, columns) to the output, channels last.

        Args:
            x: Also a single image without a batch dimension, as torch's convolutions take it.
            residual: Is added before ReLU.
        """
        if residual is not None and residual.shape != self._output_shape(x):
            # A residual that is broadcast may make the sum larger than what is convolved.
            y = self._convolve(x, None, relu=False) + residual
            return y.relu_() if self.relu else y
        return self._convolve(x, residual, self.relu)

    def _output_shape(self, x: Tensor) -> tuple[int, ...]:
        around = [2 * int(edge) for edge in self.padding]
        sizes = convolution_output_size(
            x.shape[-2:], self.kernel_size, self.stride, around, self.dilation
        )
        return (*x.shape[:-3], self.out_channels, *sizes)

    def _convolve(self, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        if x.dim() == 3:
            whole = None if residual is None else residual[None]
            return self._convolve(x[None], whole, relu).squeeze(0)
        return kernel.convolve(
            x,
            self.filters,
            self.filter_bias,
            self.matrix,
            self.bias,
            residual,
            self.out_channels,
            relu,
            self.stride,
            self.padding,  # type: ignore[arg-type]  # is_depthwise and is_pointwise refuse words
            self.dilation,
        )

    def extra_repr(self) -> str:
        """Channels, kernel size, stride, and whether ReLU follows."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        return f"{text}, stride={self.stride}, relu={self.relu}"


class FusedStack(nn.Module):
    """A split convolution that runs fast: filters by the kernel, the map's transform behind them.

    Args:
        split: The structured layer, as `is_fast_split` wants it; its pointwise map is shared.
        relu: Whether ReLU follows.
    """

    def __init__(self, split: SplitConv, relu: bool = False) -> None:
        super().__init__()
        depthwise = _depthwise_of(split)
        self.filters = None if depthwise is None else FusedConv(depthwise, None)
        self.map: Any = split if depthwise is None else split.pointwise
        self.relu = relu

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Maps (batch, in_channels, rows, columns) to (batch, out_channels, rows, columns).

        Args:
            x: Also a single image without a batch dimension, as torch's convolutions take it.
            residual: Is added before ReLU.
        """
        if x.dim() == 3 and self.filters is not None:
            y = self.map.map_channels(self.filters(x[None])).squeeze(0)
        else:
            y = self.map(x) if self.filters is None else self.map.map_channels(self.filters(x))
        if residual is not None:
            y = y + residual
        return y.relu_() if self.relu else y


def is_depthwise(layer: Any) -> bool:
    """Whether a layer is a depthwise convolution of images that the kernel can run."""
    return _is_plain(layer) and layer.groups == layer.in_channels == layer.out_channels


def is_pointwise(layer: Any) -> bool:
    """Whether a layer is a 1×1 convolution of images that the kernel can run."""
    return _is_plain(layer) and layer.kernel_size == (1, 1) and layer.groups == 1


def is_fast_split(layer: nn.Module) -> bool:
    """Whether a layer is a split convolution set to run fast, with filters that the kernel can run."""
    return (
        isinstance(layer, SplitConv)
        and layer.execution == "fast"
        and "fast" in layer.executions
        and len(layer.kernel_size) == 2
        and not has_forward_hooks(layer)
        and (layer.depthwise is None or is_depthwise(_depthwise_of(layer)))
    )


def fused_layer(layer: nn.Module) -> nn.Module:
    """The module that runs a single layer in a fused network: fused where that is possible.

    Args:
        layer: What `StructuredLayer.ready` returns.
    """
    if not kernel.available():
        return layer
    if is_fast_split(layer):
        return FusedStack(layer)  # type: ignore[arg-type]
    if is_pointwise(layer):
        return FusedConv(None, layer)  # type: ignore[arg-type]
    if type(layer) is nn.Sequential and len(layer) == 2 and belong(*layer):
        return FusedConv(layer[0], layer[1])  # type: ignore[arg-type]
    return layer


def belong(depthwise: Any, pointwise: Any) -> bool:
    """Whether two layers, one directly behind the other, are one convolution split in two."""
    return (
        is_depthwise(depthwise)
        and is_pointwise(pointwise)
        and pointwise.stride == (1, 1)
        and pointwise.padding == (0, 0)
    )


def _is_plain(layer: Any) -> bool:
    """Whether a layer is torch's convolution of images with zeros around, float32, on the CPU."""
    return (
        type(layer) is nn.Conv2d
        and isinstance(layer.padding, tuple)
        and (layer.padding_mode == "zeros" or layer.padding == (0, 0))
        and layer.weight.dtype == torch.float32
        and layer.weight.is_cpu
        and not has_forward_hooks(layer)
    )


def _depthwise_of(split: SplitConv) -> Any:
    """The filters as a plain convolution; None if the kernel covers one position."""
    return None if split.depthwise is None else plain_depthwise(split.depthwise)


def _bias(conv: nn.Conv2d | None) -> Tensor | None:
    return None if conv is None or conv.bias is None else conv.bias.detach().clone()
