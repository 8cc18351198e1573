"""Where a layer stands: the layer itself, what kind it is, and how often it runs on which sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from torch import Tensor, nn

from seclcompress.torch_private import ConvTransposeNd

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
#: What a family may be asked to replace. A depthwise convolution has one input channel a group.
Kind: TypeAlias = Literal["convolution", "depthwise", "linear"]

#: These classes, and subclasses that compute as they do.
CONVOLUTIONS: dict[int, type[Convolution]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
#: What a plan says something of, subclasses included, and of what on demand.
CONVOLUTION_KINDS: tuple[type[nn.Module], ...] = (*CONVOLUTIONS.values(), ConvTransposeNd)
LINEAR_KINDS: tuple[type[nn.Module], ...] = (nn.Linear, nn.MultiheadAttention)


class CallSize(NamedTuple):
    """The spatial sizes of one call's input and output, one number a dimension.

    Of a Linear both are its number of positions.
    """

    input: tuple[int, ...]
    output: tuple[int, ...]


@dataclass(frozen=True)
class Site:
    """A layer, and how it is used for one image.

    Attributes:
        layer: A convolution or a Linear.
        calls: How often it runs on which sizes. Empty where only a replacement is to be built.
        name: Where it is in the network.
    """

    layer: nn.Module
    calls: Mapping[CallSize, int] = field(default_factory=dict)
    name: str = ""

    @property
    def kind(self) -> Kind:
        """Whether it is a Linear, a depthwise convolution, or another convolution."""
        if isinstance(self.layer, nn.Linear):
            return "linear"
        conv = self.convolution
        return "depthwise" if conv.groups == conv.in_channels > 1 else "convolution"

    @cached_property
    def convolution(self) -> Convolution:
        """The convolution that the layer is: itself, or for a Linear the 1×1 one over its positions."""
        return as_convolution(self.layer)

    @property
    def input_positions(self) -> int:
        """Positions of its inputs, over all calls for an image."""
        return sum(math.prod(size.input) * times for size, times in self.calls.items())

    @property
    def output_positions(self) -> int:
        """Positions of its outputs, over all calls for an image."""
        return sum(math.prod(size.output) * times for size, times in self.calls.items())


def as_convolution(layer: nn.Module) -> Convolution:
    """The convolution that a layer is: itself, or for a Linear the 1×1 one over its positions.

    Args:
        layer: A convolution or a Linear; a Linear's weights are shared, not copied.
    """
    if not isinstance(layer, nn.Linear):
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        return layer
    conv = nn.Conv1d(layer.in_features, layer.out_features, 1, bias=False, device="meta")
    trained = layer.weight.requires_grad
    conv.weight = nn.Parameter(layer.weight.detach()[:, :, None], requires_grad=trained)
    conv.bias = layer.bias
    return conv.train(layer.training)


class Geometry(Protocol):
    """What a convolution does beside its weights: a torch convolution has it, a replacement too."""

    @property
    def stride(self) -> tuple[int, ...]:
        """One number a dimension."""

    @property
    def padding(self) -> str | tuple[int, ...]:
        """One number a dimension, `same` or `valid`."""

    @property
    def dilation(self) -> tuple[int, ...]:
        """One number a dimension."""

    @property
    def padding_mode(self) -> str:
        """What torch pads with."""


def convolution_of(
    weight: Tensor, bias: Tensor | None = None, geometry: Geometry | None = None, groups: int = 1
) -> Convolution:
    """A torch convolution with these weights, copied, on their device and in their dtype.

    Args:
        weight: Shape (out_channels, in_channels ÷ groups, *kernel_size).
        bias: Shape (out_channels,), or None.
        geometry: Stride, padding, dilation and padding mode; by default 1, none and 1.
        groups: As in torch.
    """
    dimensions = weight.dim() - 2
    options: dict[str, Any] = {}
    if geometry is not None:
        names = ("stride", "padding", "dilation", "padding_mode")
        options = {name: getattr(geometry, name) for name in names}
    conv = CONVOLUTIONS[dimensions](
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        groups=groups,
        bias=False,
        device="meta",  # what it would be initialised with is replaced
        **options,
    )
    conv.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone())
    return conv
