"""Where a layer stands: the layer, its kind, and how often it runs on which sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from torch import Tensor, nn

from seclcompress.substitutions.folding import folded_weight
from seclcompress.torch_private import ConvTransposeNd

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
#: Kinds of layers that a family may replace. A depthwise convolution has one input channel per group.
Kind: TypeAlias = Literal["convolution", "depthwise", "linear"]

#: The convolutions that can be replaced, by number of spatial dimensions. Subclasses can be, too, if
#: they compute the same.
CONVOLUTIONS: dict[int, type[Convolution]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
#: The layers that have an entry in every plan, and those that have one if `linear` is asked for;
#: subclasses included.
CONVOLUTION_KINDS: tuple[type[nn.Module], ...] = (*CONVOLUTIONS.values(), ConvTransposeNd)
LINEAR_KINDS: tuple[type[nn.Module], ...] = (nn.Linear, nn.MultiheadAttention)


class CallSize(NamedTuple):
    """The spatial sizes of one call's input and output, one number per dimension.

    For a Linear, both are its number of positions.
    """

    input: tuple[int, ...]
    output: tuple[int, ...]


@dataclass(frozen=True)
class Site:
    """A layer, and how a network uses it for one image.

    Attributes:
        layer: A convolution or a Linear.
        calls: How often it runs, by size. Empty where the site is only used to build a replacement.
        name: The layer's name in the network.
    """

    layer: nn.Module
    calls: Mapping[CallSize, int] = field(default_factory=dict)
    name: str = ""

    @property
    def kind(self) -> Kind:
        """The layer's kind; `convolution` means any convolution that is not depthwise."""
        if isinstance(self.layer, nn.Linear):
            return "linear"
        conv = self.convolution
        return "depthwise" if conv.groups == conv.in_channels > 1 else "convolution"

    @cached_property
    def convolution(self) -> Convolution:
        """The layer, or for a Linear the equal 1×1 convolution over its positions."""
        return as_convolution(self.layer)

    @property
    def input_positions(self) -> int:
        """Number of input positions, summed over all calls for one image."""
        return sum(math.prod(size.input) * times for size, times in self.calls.items())

    @property
    def output_positions(self) -> int:
        """Number of output positions, summed over all calls for one image."""
        return sum(math.prod(size.output) * times for size, times in self.calls.items())


def as_convolution(layer: nn.Module) -> Convolution:
    """Returns a convolution as it is, and a Linear as the equal 1×1 convolution over its positions.

    Args:
        layer: A convolution or a Linear. The result shares a Linear's weights; they are not copied.
    """
    if not isinstance(layer, nn.Linear):
        return folded(layer)
    conv = nn.Conv1d(layer.in_features, layer.out_features, 1, bias=False, device="meta")
    trained = layer.weight.requires_grad
    conv.weight = nn.Parameter(layer.weight.detach()[:, :, None], requires_grad=trained)
    conv.bias = layer.bias
    return conv.train(layer.training)


def folded(layer: nn.Module) -> Convolution:
    """Returns a plain convolution as it is, and one that makes its weight as the plain one with it."""
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    weight = folded_weight(layer)
    if weight is None:
        return layer
    return convolution_of(weight, layer.bias, layer, layer.groups).train(layer.training)


class Geometry(Protocol):
    """The attributes that tell where a convolution applies its kernel.

    torch's convolutions have them, and so do replacements.
    """

    @property
    def stride(self) -> tuple[int, ...]:
        """One number per dimension."""

    @property
    def padding(self) -> str | tuple[int, ...]:
        """One number per dimension, or `same` or `valid`."""

    @property
    def dilation(self) -> tuple[int, ...]:
        """One number per dimension."""

    @property
    def padding_mode(self) -> str:
        """The name of torch's padding mode, such as `zeros` or `reflect`."""


def convolution_of(
    weight: Tensor, bias: Tensor | None = None, geometry: Geometry | None = None, groups: int = 1
) -> Convolution:
    """Makes a torch convolution with copies of these weights, on their device and in their dtype.

    Args:
        weight: Shape (out_channels, in_channels ÷ groups, *kernel_size).
        bias: Shape (out_channels,), or None.
        geometry: Stride, padding, dilation and padding mode; by default torch's defaults.
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
        device="meta",  # the weights are replaced below
        **options,
    )
    conv.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone())
    return conv
