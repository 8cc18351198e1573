"""Residual networks without batch norm, those of SVD-evolutive-CNN (Dejaegher, 2021).

A block adds two 3×3 convolutions with biases to its input, whose channels are repeated to as many as the
block puts out. `resnet6_no_norm` is the published start of the MNIST experiment (six blocks of 1,971,308
parameters). Of the CIFAR-10 experiment the author says that it has nine layers and 2 M parameters; the
notebook that is left has twelve blocks. `resnet9_no_norm` has its first nine, pooled to 2×2 as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from seclcompress.networks.classifiers import NamedClassifiers
from seclcompress.networks.sources import NetworkSpec


@dataclass(frozen=True)
class _Shape:
    """One of the networks.

    Attributes:
        size: (channels, height, width) of the images.
        groups: Inner and output channels of each block; 2×2 max pooling lies between the groups.
        pooled_last: Whether max pooling lies behind the last group, too.
        slope: The slope of the leaky ReLUs below zero.
        activates_first: Whether a leaky ReLU lies before each block's convolutions and the classifier.
    """

    size: tuple[int, int, int]
    groups: Sequence[Sequence[tuple[int, int]]]
    pooled_last: bool
    slope: float
    activates_first: bool


_NETWORKS = {
    "resnet6_no_norm": _Shape(
        (1, 28, 28),
        [[(7, 24), (48, 72)], [(100, 120), (140, 160)], [(180, 200), (200, 200)]],
        pooled_last=False,
        slope=0.2,
        activates_first=False,
    ),
    "resnet9_no_norm": _Shape(
        (3, 32, 32),
        [
            [(15, 50), (15, 60)],
            [(20, 125), (30, 165), (60, 200)],
            [(135, 200)] * 3,
            [(100, 150)],
        ],
        pooled_last=True,
        slope=0.1,
        activates_first=True,
    ),
}


class RepeatingBlock(nn.Module):
    """3×3, leaky ReLU, 3×3, plus the input with its channels repeated.

    Args:
        in_channels: Input channels.
        inner: Channels between the convolutions.
        out_channels: Output channels.
        slope: The slope of the leaky ReLUs below zero.
        activates_first: Whether a leaky ReLU lies before the first convolution, too.
    """

    def __init__(
        self, in_channels: int, inner: int, out_channels: int, slope: float, activates_first: bool
    ) -> None:
        super().__init__()
        self.activation1 = nn.LeakyReLU(slope) if activates_first else nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, inner, 3, padding=1)
        self.activation2 = nn.LeakyReLU(slope)
        self.conv2 = nn.Conv2d(inner, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in, H, W) to (batch, out, H, W)."""
        y = self.conv2(self.activation2(self.conv1(self.activation1(x))))
        repeats = -(-y.shape[1] // x.shape[1])
        return y + x.repeat(1, repeats, 1, 1)[:, : y.shape[1]]  # type: ignore[no-any-return]


def _network(shape: _Shape, num_classes: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    inside, side = shape.size[0], shape.size[1]
    for number, group in enumerate(shape.groups, start=1):
        for inner, outside in group:
            parts.append(RepeatingBlock(inside, inner, outside, shape.slope, shape.activates_first))
            inside = outside
        if number < len(shape.groups) or shape.pooled_last:
            parts.append(nn.MaxPool2d(2))
            side //= 2
    if shape.activates_first:
        parts.append(nn.LeakyReLU(shape.slope))
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(inside * side**2, num_classes))


class ResNetsWithoutNorm(NamedClassifiers):
    """The networks `resnet6_no_norm` and `resnet9_no_norm`, which take no options."""

    name = "resnet_no_norm"
    needs_input_size = True

    def names(self) -> list[str]:
        """Both names."""
        return list(_NETWORKS)

    def network(self, name: str, num_classes: int) -> nn.Sequential:
        """Builds the network."""
        return _network(_NETWORKS[name], num_classes)

    def input_size(self, spec: NetworkSpec) -> tuple[int, ...]:
        """The size of MNIST's images, or of CIFAR's."""
        shape = _NETWORKS.get(spec.name)
        return shape.size if shape else super().input_size(spec)


SOURCE = ResNetsWithoutNorm()
