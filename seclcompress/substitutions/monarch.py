"""Monarch: a depthwise convolution followed by two block-diagonal maps with shuffles behind each.

Dao et al., "Monarch: Expressive Structured Matrices for Efficient and Accurate Training", ICML 2022:

    y = x · B_1 S B_2 S

`B_1` and `B_2` are block-diagonal with g blocks, and `S` is the channel shuffle of g groups (the paper's
permutation P). With the inputs in g runs of neighbours, and the outputs in g groups of which each takes
every g-th, W is a matrix of g × g blocks of rank r; so every block has a closed-form projection. The
paper's Monarch matrices are square with n = g² and r = 1.

The number w of channels that each block of the first map makes need not be a multiple of g: blocks of W
then have a rank of ⌊w ÷ g⌋ or ⌈w ÷ g⌉.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

from pydantic import Field

from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.substitutions.contract import Substitution
from seclcompress.substitutions.shapes import SplitConv, split_cost
from seclcompress.substitutions.shapes.grouped import GroupedPointwise, maps_matrix
from seclcompress.substitutions.shapes.initial import white_factors
from seclcompress.substitutions.site import Convolution, Site
from seclcompress.substitutions.sized import RankedConfig, divisors, largest_size


class MonarchConfig(RankedConfig):
    """Options of a Monarch matrix.

    Attributes:
        ratio: Parameters of the two maps, at most, divided by those of a dense matrix.
        rank: The rank r of each of the blocks² blocks of W, cut to the full one. 0 takes what the ratio
            allows; it is at least 1.
        blocks: Blocks g of each map. 0 chooses among the common divisors of the channels. By the ratio
            it takes the smallest with which W can have full rank, or the one that comes nearest; for a
            given rank the largest whose maps have no more channels between them than W has rank: √n
            for rank 1, as in the paper.
    """

    blocks: int = Field(
        default=0, ge=0, le=2**20, description="blocks of each map; 0: chosen for the highest rank"
    )


class Sizes(NamedTuple):
    """The number g of blocks of each map, and the number w of channels that each makes in the first."""

    blocks: int
    width: int


class MonarchSubstitution(Substitution):
    """Depthwise + a Monarch matrix."""

    name = "monarch"
    title = "Monarch"
    summary = (
        "depthwise + two block-diagonal maps with shuffles: blocks of low rank, closed-form start"
    )
    Config = MonarchConfig
    executions = EXECUTIONS

    def _refuse(self, site: Site, config: MonarchConfig) -> str | None:
        conv = site.convolution
        for channels in (conv.in_channels, conv.out_channels):
            if config.blocks and channels % config.blocks:
                return f"{config.blocks} blocks do not divide its {channels:,} channels"
        return None

    def cost(self, site: Site, config: MonarchConfig) -> LayerCost:
        """`k²·c_in + w(c_in + c_out)` parameters, with w = g·r.

        Run one after the other, the maps take `w(c_in + c_out)` Mult-Adds at a position.
        """
        conv = site.convolution
        g, width = _sizes(conv, config)
        least, most = width // g, -(-width // g)
        ranks = f"{least}" if least == most else f"{least} and {most}"
        weights = width * (conv.in_channels + conv.out_channels)
        dense = conv.in_channels * conv.out_channels
        note = f"{g}×{g} blocks of rank {ranks}"
        return split_cost(site, weights, {"dense": dense, "fast": weights}, note=note)

    def _build(self, site: Site, config: MonarchConfig) -> SplitConv:
        conv = site.convolution
        c_in, c_out = conv.in_channels, conv.out_channels
        g, width = _sizes(conv, config)
        shapes = [(g, width, c_in // g), (g, c_out // g, width)]
        product = partial(maps_matrix, shuffled=True)
        maps = white_factors(conv, shapes, [shape[-1] for shape in shapes], product)
        return SplitConv(conv, GroupedPointwise(c_in, c_out, conv.bias, maps, shuffled=True))


def _sizes(conv: Convolution, config: MonarchConfig) -> Sizes:
    """The sizes that are asked for, or the largest that the ratio allows."""
    c_in, c_out = conv.in_channels, conv.out_channels
    full = min(c_in, c_out)
    common = math.gcd(c_in, c_out)
    if config.rank:
        fitting = [g for g in divisors(common) if g * g * config.rank <= full]
        g = config.blocks or max(fitting, default=1)
        return Sizes(g, min(config.rank * g, full))
    dense = c_in * c_out
    width = largest_size(lambda width: width * (c_in + c_out), config.ratio, dense, full)
    if config.blocks:
        return Sizes(config.blocks, max(width, config.blocks))
    connected = [g for g in divisors(common) if g <= width]
    enough = [g for g in connected if g * width >= full]
    return Sizes(min(enough, default=max(connected)), width)


SUBSTITUTION = MonarchSubstitution()
