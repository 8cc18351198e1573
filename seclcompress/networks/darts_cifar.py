"""Networks of searched cells for 32×32 images (DARTS: Liu, Simonyan & Yang, ICLR 2019).

`darts_cifar` is DARTS_V2 with 20 cells and 36 channels, without its auxiliary head and without drop
path. `darts<cells>_<channels>_cifar` is another size, and `…@FILE` has the cells of a genotype in a
file; a saved folder holds the genotype itself. The parameters have the names of DARTS's checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from seclcompress.errors import NetworkError
from seclcompress.networks.classifiers import ImageClassifiers
from seclcompress.networks.darts_genotype import (
    DARTS_V2,
    Genotype,
    Operation,
    checked,
    read_genotype,
)
from seclcompress.networks.sources import NetworkSpec, Option

#: A name may stand in a stranger's file: no endless cells or channels.
_NAME = re.compile(r"(darts(?:([1-9]\d?)_([1-9]\d{0,2}))?_cifar)(?:@(.+))?")
_CELLS, _CHANNELS = 20, 36
#: Channels of the stem, in channels of the first cells.
_STEM = 3


class _Step(nn.Module):
    """Layers in a row, under the name that DARTS's checkpoints have for them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)  # type: ignore[no-any-return]


class FactorizedReduce(nn.Module):
    """ReLU, two 1×1 of stride 2 on the even and on the odd pixels, side by side, BN."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in, H, W) to (batch, out, H ÷ 2, W ÷ 2)."""
        x = self.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))  # type: ignore[no-any-return]


class Zero(nn.Module):
    """The operation `none`: zeros."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, C, H, W) to (batch, C, H ÷ stride, W ÷ stride)."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


def _relu_conv_norm(in_channels: int, out_channels: int) -> nn.Module:
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return _Step(nn.ReLU(), conv, nn.BatchNorm2d(out_channels))


def _separable(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    """ReLU, depthwise, 1×1, BN."""
    padding = dilation * (kernel - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(
            channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
        ),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]


def _operation(kind: Operation, channels: int, stride: int) -> nn.Module:
    if kind == "none":
        return Zero(stride)
    if kind == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    if kind == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    if kind == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    if kind == "conv_7x1_1x7":
        return nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
            nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
            nn.BatchNorm2d(channels),
        )
    kernel = int(kind[-1])
    if kind.startswith("dil"):
        return _Step(*_separable(channels, kernel, stride, dilation=2))
    return _Step(*_separable(channels, kernel, stride), *_separable(channels, kernel, 1))


class Cell(nn.Module):
    """A cell of a genotype.

    Args:
        edges: Operations and the states that they are applied to, two for each node.
        concat: The nodes that are put out.
        before: Channels of the two cells before, the nearer one last.
        channels: Channels of each node.
        reduces: Whether the cell halves the size.
        after_reduction: Whether the cell before does, so that the further input is twice as large.
    """

    def __init__(
        self,
        edges: Sequence[tuple[Operation, int]],
        concat: Sequence[int],
        before: tuple[int, int],
        channels: int,
        *,
        reduces: bool,
        after_reduction: bool,
    ) -> None:
        super().__init__()
        first = FactorizedReduce if after_reduction else _relu_conv_norm
        self.preprocess0 = first(before[0], channels)
        self.preprocess1 = _relu_conv_norm(before[1], channels)
        self._ops = nn.ModuleList(
            _operation(kind, channels, 2 if reduces and state < 2 else 1) for kind, state in edges
        )
        self.seen = [state for _, state in edges]
        self.concat = tuple(concat)

    def forward(self, further: Tensor, nearer: Tensor) -> Tensor:
        """Maps the outputs of the two cells before to (batch, nodes · channels, H, W)."""
        states = [self.preprocess0(further), self.preprocess1(nearer)]
        for first in range(0, len(self.seen), 2):
            one, other = (self._ops[e](states[self.seen[e]]) for e in (first, first + 1))
            states.append(one + other)
        return torch.cat([states[node] for node in self.concat], 1)


class SearchedNetwork(nn.Module):
    """A stem, cells that halve the size at one and two thirds of the way, a classifier.

    Args:
        genotype: The cells.
        cells: Number of cells.
        channels: Channels of each node before the first reduction; they double at each.
        num_classes: Outputs of the classifier.
    """

    def __init__(self, genotype: Genotype, cells: int, channels: int, num_classes: int) -> None:
        super().__init__()
        stem = _STEM * channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem)
        )
        self.cells = nn.ModuleList()
        before, after_reduction = (stem, stem), False
        for number in range(cells):
            reduces = number in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduces else 1
            edges = genotype.reduce if reduces else genotype.normal
            concat = genotype.reduce_concat if reduces else genotype.normal_concat
            self.cells.append(
                Cell(
                    edges,
                    concat,
                    before,
                    channels,
                    reduces=reduces,
                    after_reduction=after_reduction,
                )
            )
            before, after_reduction = (before[1], len(concat) * channels), reduces
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(before[1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (batch, 3, H, W) to logits (batch, num_classes)."""
        further = nearer = self.stem(x)
        for cell in self.cells:
            further, nearer = nearer, cell(further, nearer)
        return self.classifier(torch.flatten(self.global_pooling(nearer), 1))  # type: ignore[no-any-return]


class SearchedNetworks(ImageClassifiers):
    """The networks `darts_cifar` and `darts<cells>_<channels>_cifar`, of any genotype."""

    name = "darts_cifar"
    also = (
        "darts<cells>_<channels>_cifar is a DARTS network of another size; with @FILE behind it, as "
        "darts_cifar@genotype.txt, a network has the cells of a genotype in a file."
    )

    def names(self) -> list[str]:
        """The network of the paper; other sizes are known as well."""
        return ["darts_cifar"]

    def knows(self, name: str) -> bool:
        """Whether a name is of this form, with a file behind it or not."""
        return _NAME.fullmatch(name) is not None

    def spec(
        self,
        name: str,
        num_classes: int | None = None,
        options: Mapping[str, Option] | None = None,
    ) -> NetworkSpec:
        """The spec of a network; the genotype of a file becomes its options.

        Raises:
            NetworkError: If the file is missing or holds no genotype.
        """
        match = _NAME.fullmatch(name)
        if match is None or match[4] is None:
            return super().spec(name, num_classes, options)
        genotype = read_genotype(Path(match[4]))
        return super().spec(match[1], num_classes, {**genotype.model_dump(), **(options or {})})

    def build(self, spec: NetworkSpec) -> nn.Module:
        """Builds the network of the spec's genotype, DARTS_V2 if it has none.

        Raises:
            NetworkError: If the name names a file, the channels are odd, or the genotype is none.
        """
        match = _NAME.fullmatch(spec.name)
        if match is None or match[4] is not None:
            raise NetworkError(f"There is no {spec.name} among the networks of {self.name}.")
        genotype = checked(spec.options, spec.name) if spec.options else DARTS_V2
        cells, channels = int(match[2] or _CELLS), int(match[3] or _CHANNELS)
        if channels % 2:
            raise NetworkError(
                f"There is no {spec.name}: a cell after a reduction makes its channels from two "
                f"halves, so their number is even. Did you mean darts{cells}_{channels + 1}_cifar?"
            )
        classes = spec.num_classes or self.usual_classes(spec.name)
        return SearchedNetwork(genotype, cells, channels, classes)


SOURCE = SearchedNetworks()
