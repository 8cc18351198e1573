"""Shuffle: a depthwise convolution followed by grouped maps with channel shuffles between them.

ShuffleNet's units without their nonlinearities (Zhang et al., "ShuffleNet", CVPR 2018), as in the SECL
paper's research log and, as "Linear ShuffleNet", in its successors:

    y = x · B_1 S B_2 S … B_L

`B_l` is block-diagonal with g blocks, a grouped 1×1 convolution. `S` splits the channels into g parts
and interleaves them; for two groups it is the riffle. Between the maps there are as many channels as the
fewer of inputs and outputs.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn

from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.shapes import FactoredPointwise, SplitConv, split_cost, white_gain
from seclcompress.substitutions.shapes.permutation import channel_shuffle
from seclcompress.substitutions.shapes.precision import wide_dtype, without_autocast
from seclcompress.substitutions.site import Convolution, Site


class ShuffleConfig(SubstitutionConfig):
    """Options of the grouped maps.

    Attributes:
        layers: Number L of grouped maps.
        groups: Number g of groups, in each map.
    """

    layers: int = Field(default=2, ge=1, le=1024)
    groups: int = Field(default=4, ge=1, le=2**20)


class ShufflePointwise(FactoredPointwise):
    """Grouped maps of the channels with channel shuffles between them.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        bias: The initial bias, or None.
        maps: The maps' initial blocks, each of shape (groups, outputs ÷ groups, inputs ÷ groups).
    """

    executions = EXECUTIONS

    def __init__(
        self, in_channels: int, out_channels: int, bias: Tensor | None, maps: list[Tensor]
    ) -> None:
        super().__init__(in_channels, out_channels, bias)
        self.maps = nn.ParameterList(nn.Parameter(blocks) for blocks in maps)
        self.groups = maps[0].shape[0]

    def factors(self) -> list[nn.Parameter]:
        """The blocks of each map."""
        return list(self.maps)

    def make_weight(self) -> Tensor:
        """Multiplies the maps out to a matrix of shape (out_channels, in_channels)."""
        example = self.maps[0]
        with without_autocast(example):
            wide = wide_dtype(example.dtype)
            unit = torch.eye(self.in_channels, dtype=wide, device=example.device)
            return self._run(unit).mT.contiguous().to(example.dtype)

    def transform(self, x: Tensor) -> Tensor:
        """Applies the maps one after another to vectors."""
        with without_autocast(x):
            return self._run(x.to(wide_dtype(self.maps[0].dtype))).to(x.dtype)

    def _run(self, y: Tensor) -> Tensor:
        for place, blocks in enumerate(self.maps):
            y = channel_shuffle(y, self.groups) if place else y
            parts = y.unflatten(-1, (self.groups, -1))
            y = torch.einsum("...gi,goi->...go", parts, blocks.to(y.dtype)).flatten(-2)
        return y

    def quickest_in_training(self, positions: int) -> str:
        """The execution that makes a training step cheaper; `dense` makes W from all unit vectors."""
        vector = sum(blocks.numel() for blocks in self.maps)
        matrix = self.in_channels * vector + positions * self.in_channels * self.out_channels
        return "fast" if positions * vector < matrix else "dense"

    def fit_weight(self, target: Tensor) -> float:
        """Brings the map's matrix near a target.

        One map takes the target's blocks on the diagonal. Two maps whose shuffle connects every group
        with every group by the same number r of channels are a matrix of g × g blocks of rank r: each
        takes its block's first r singular triples (Eckart & Young, 1936). Both are the nearest there is.
        Other maps are fitted by gradient descent.

        Args:
            target: Shape (out_channels, in_channels).

        Returns:
            The relative error, ‖W − target‖ ÷ ‖target‖ (Frobenius); 1 for a target of zeros, for which
            nothing changes.
        """
        norm = float(target.double().norm())
        closed = len(self.maps) == 1 or (
            len(self.maps) == 2 and self.maps[0].shape[1] % self.groups == 0
        )
        if norm == 0 or not closed:
            return super().fit_weight(target)
        self.forget_weight()
        g = self.groups
        # blocks[j, i]: from the inputs of group i to the outputs of group j
        blocks = target.detach().double().unflatten(0, (g, -1)).unflatten(2, (g, -1))
        blocks = blocks.transpose(1, 2)
        with torch.no_grad():
            if len(self.maps) == 1:
                self.maps[0].copy_(blocks.diagonal().movedim(-1, 0))
            else:
                self._put_blocks(blocks)
            return float((self.make_weight().double() - target).norm()) / norm

    def _put_blocks(self, blocks: Tensor) -> None:
        """Sets two maps to the nearest of their kind, from blocks of shape (g, g, out ÷ g, in ÷ g)."""
        g, first, second = self.groups, self.maps[0], self.maps[1]
        rank = first.shape[1] // g
        left, values, right = torch.linalg.svd(blocks, full_matrices=False)
        held = min(rank, values.shape[-1])
        root = values[..., :held].sqrt()
        into = (root[..., None] * right[..., :held, :]).to(first.dtype)
        out = (left[..., :held] * root[..., None, :]).to(second.dtype)
        # The shuffle takes output r of group i to place r·g + i, so outputs j·rank … (j + 1)·rank of
        # every group go to group j, and there to places of which i is the last digit in base g. Channels
        # that no singular triple needs keep their values in the first map, and get none in the second.
        second.zero_()
        sources = first.unflatten(1, (g, rank))  # (i, j, r, inputs)
        sinks = second.unflatten(2, (rank, g))  # (j, outputs, r, i)
        sources[:, :, :held] = into.transpose(0, 1)
        sinks[:, :, :held] = out.permute(0, 2, 3, 1)

    def extra_repr(self) -> str:
        """Channels, maps and groups."""
        size = f"{self.in_channels}, {self.out_channels}"
        return f"{size}, layers={len(self.maps)}, groups={self.groups}"


class ShuffleSubstitution(Substitution):
    """Depthwise + grouped maps with channel shuffles between them."""

    name = "shuffle"
    title = "Shuffle"
    summary = "depthwise + grouped maps with channel shuffles between them, as in ShuffleNet"
    Config = ShuffleConfig
    executions = EXECUTIONS

    def _refuse(self, site: Site, config: ShuffleConfig) -> str | None:
        conv = site.convolution
        for channels in (conv.in_channels, conv.out_channels):
            if channels % config.groups:
                return f"{config.groups} groups do not divide its {channels:,} channels"
        return None

    def cost(self, site: Site, config: ShuffleConfig) -> LayerCost:
        """`k²·c_in + (c_in·m + (L − 2)m² + m·c_out) ÷ g` parameters, m = min(c_in, c_out).

        One map has `c_in·c_out ÷ g`. Run one after another, the maps take as many Mult-Adds per
        position.
        """
        conv = site.convolution
        weights = sum(a * b for a, b in pairwise(_widths(conv, config))) // config.groups
        dense = conv.in_channels * conv.out_channels
        return split_cost(site, weights, {"dense": dense, "fast": weights})

    def _build(self, site: Site, config: ShuffleConfig) -> SplitConv:
        conv, g = site.convolution, config.groups
        gain = white_gain(conv) ** (1 / config.layers)
        maps = []
        for inputs, outputs in pairwise(_widths(conv, config)):
            blocks = conv.weight.new_empty(g, outputs // g, inputs // g)
            maps.append(nn.init.normal_(blocks, std=gain / math.sqrt(inputs // g)))
        return SplitConv(
            conv, ShufflePointwise(conv.in_channels, conv.out_channels, conv.bias, maps)
        )


def _widths(conv: Convolution, config: ShuffleConfig) -> list[int]:
    """The channels before, between and behind the maps."""
    between = [min(conv.in_channels, conv.out_channels)] * (config.layers - 1)
    return [conv.in_channels, *between, conv.out_channels]


SUBSTITUTION = ShuffleSubstitution()
