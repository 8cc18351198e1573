"""Grouped maps of the channels with channel shuffles between them: `shuffle` and `monarch`.

    y = x · B_1 S B_2 S … B_L [S]

`B_l` is block-diagonal with g blocks, a grouped 1×1 convolution. `S` is the channel shuffle of g groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seclcompress.cost import EXECUTIONS
from seclcompress.substitutions.shapes.initial import zero_below
from seclcompress.substitutions.shapes.permutation import channel_shuffle
from seclcompress.substitutions.shapes.pointwise import FactoredPointwise
from seclcompress.substitutions.shapes.precision import (
    at_least_float32,
    wide_dtype,
    without_autocast,
)
from seclcompress.substitutions.shapes.quickest import BLOCKS, quickest


class GroupedPointwise(FactoredPointwise):
    """Grouped maps of the channels with channel shuffles between them.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        bias: The initial bias, or None.
        maps: The maps' initial blocks, each of shape (groups, outputs ÷ groups, inputs ÷ groups).
        shuffled: Whether a shuffle follows the last map as well.
    """

    executions = EXECUTIONS

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: Tensor | None,
        maps: list[Tensor],
        *,
        shuffled: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, bias)
        self.maps = nn.ParameterList(nn.Parameter(blocks) for blocks in maps)
        self.groups = maps[0].shape[0]
        self.shuffled = shuffled

    def factors(self) -> list[nn.Parameter]:
        """The blocks of each map."""
        return list(self.maps)

    def make_weight(self) -> Tensor:
        """Multiplies the maps out to a matrix of shape (out_channels, in_channels)."""
        with without_autocast(self.maps[0]):
            maps = [at_least_float32(blocks) for blocks in self.maps]
            return maps_matrix(maps, shuffled=self.shuffled).to(self.maps[0].dtype)

    def transform(self, x: Tensor) -> Tensor:
        """Applies the maps one after another to vectors."""
        with without_autocast(x):
            wide = x.to(wide_dtype(self.maps[0].dtype))
            return apply_maps(wide, list(self.maps), shuffled=self.shuffled).to(x.dtype)

    def quickest_in_training(self, positions: int) -> str:
        """The execution that makes a training step cheaper; `dense` makes W from all unit vectors."""
        vector = sum(blocks.numel() for blocks in self.maps)
        narrower = min(self.in_channels, self.out_channels)
        matrix = narrower * vector + positions * self.in_channels * self.out_channels
        return quickest(positions * vector, matrix, narrower, BLOCKS)

    def fit_weight(self, target: Tensor) -> float:
        """Brings the map's matrix near a target.

        One map takes the target's blocks on the diagonal. Two maps are a matrix of g × g blocks, each of
        a rank of its own: the number of channels between the maps that lead from one group to the other.
        Each block takes so many of its first singular triples (Eckart & Young, 1936; for Monarch
        matrices Dao et al., 2022, theorem 1). Both are the nearest there is. More maps are fitted by
        gradient descent.

        Args:
            target: Shape (out_channels, in_channels).

        Returns:
            The relative error, ‖W − target‖ ÷ ‖target‖ (Frobenius); 1 for a target of zeros, for which
            nothing changes.
        """
        norm = float(target.double().norm())
        if norm == 0 or len(self.maps) > 2:
            return super().fit_weight(target)
        self.forget_weight()
        g = self.groups
        rows = target.detach().double()
        if self.shuffled:  # the shuffle with out ÷ g groups undoes that with g
            rows = channel_shuffle(rows.mT, self.out_channels // g).mT
        # blocks[j, i]: from the inputs of group i to the outputs of group j
        blocks = rows.unflatten(0, (g, -1)).unflatten(2, (g, -1)).transpose(1, 2)
        with torch.no_grad():
            if len(self.maps) == 1:
                self.maps[0].copy_(blocks.diagonal().movedim(-1, 0))
            else:
                self._put_blocks(blocks)
            return float((self.make_weight().double() - target).norm()) / norm

    def _put_blocks(self, blocks: Tensor) -> None:
        """Sets two maps to the nearest of their kind, from blocks of shape (g, g, out ÷ g, in ÷ g)."""
        g, first, second = self.groups, self.maps[0], self.maps[1]
        width = first.shape[1]
        left, values, right = torch.linalg.svd(blocks, full_matrices=False)
        root = values.sqrt()
        into = root[..., None] * right  # (j, i, triple, inputs)
        out = root[..., None] * left.mT  # (j, i, triple, outputs)
        # The shuffle takes output q of group i to place q·g + i, and group j has the places from
        # j·width on. So block (j, i) has the outputs q from ⌈(j·width − i) ÷ g⌉ on.
        i = torch.arange(g, device=first.device)[:, None]
        q = torch.arange(width, device=first.device)
        place = q * g + i
        j, slot = place // width, place % width
        triple = q - (j * width - i + g - 1) // g
        there = triple < values.shape[-1]
        triple = triple.clamp(max=values.shape[-1] - 1)
        held = (there & (values[j, i, triple] > zero_below(values)))[..., None]
        # Channels that no singular triple needs keep their values in the first map, and get none in the
        # second; with none in both they would never get a gradient.
        first.copy_(torch.where(held, into[j, i, triple].to(first.dtype), first))
        second[j, :, slot] = (out[j, i, triple] * held).to(second.dtype)

    def extra_repr(self) -> str:
        """Channels, maps and groups."""
        size = f"{self.in_channels}, {self.out_channels}"
        return f"{size}, layers={len(self.maps)}, groups={self.groups}"


def apply_maps(y: Tensor, maps: Sequence[Tensor], *, shuffled: bool = False) -> Tensor:
    """Applies grouped maps one after another to vectors.

    Args:
        y: Shape (..., in_channels).
        maps: See `GroupedPointwise`.
        shuffled: See `GroupedPointwise`.

    Returns:
        Shape (..., out_channels), in the dtype of y.
    """
    groups = maps[0].shape[0]
    for place, blocks in enumerate(maps):
        y = channel_shuffle(y, groups) if place else y
        parts = y.unflatten(-1, (groups, -1))
        y = torch.einsum("...gi,goi->...go", parts, blocks.to(y.dtype)).flatten(-2)
    return channel_shuffle(y, groups) if shuffled else y


def apply_transposed_maps(y: Tensor, maps: Sequence[Tensor], *, shuffled: bool = False) -> Tensor:
    """Applies the transposes of grouped maps, the last one first: (..., out_channels) to inputs."""
    groups = maps[0].shape[0]
    for place, blocks in reversed(list(enumerate(maps))):
        if shuffled or place < len(maps) - 1:  # the shuffle with n ÷ g groups undoes that with g
            y = channel_shuffle(y, y.shape[-1] // groups)
        parts = y.unflatten(-1, (groups, -1))
        y = torch.einsum("...go,goi->...gi", parts, blocks.to(y.dtype)).flatten(-2)
    return y


def maps_matrix(maps: Sequence[Tensor], *, shuffled: bool = False) -> Tensor:
    """Multiplies grouped maps out to a matrix of shape (out_channels, in_channels).

    The maps run on the unit vectors of the inputs, or their transposes on those of the outputs, if these
    are fewer.
    """
    example = maps[0]
    inputs, outputs = example.shape[0] * example.shape[2], example.shape[0] * maps[-1].shape[1]
    unit = torch.eye(min(inputs, outputs), dtype=example.dtype, device=example.device)
    if outputs < inputs:
        return apply_transposed_maps(unit, maps, shuffled=shuffled).contiguous()
    return apply_maps(unit, maps, shuffled=shuffled).mT.contiguous()
