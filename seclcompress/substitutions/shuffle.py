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
from typing import Any

from pydantic import Field
from torch import nn

from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.shapes import SplitConv, split_cost, white_gain
from seclcompress.substitutions.shapes.grouped import GroupedPointwise
from seclcompress.substitutions.site import Convolution, Site


class ShuffleConfig(SubstitutionConfig):
    """Options of the grouped maps.

    Attributes:
        layers: Number L of grouped maps.
        groups: Number g of groups, in each map.
    """

    layers: int = Field(default=2, ge=1, le=1024)
    groups: int = Field(default=4, ge=1, le=2**20)

    @classmethod
    def ladder(cls) -> tuple[dict[str, Any], ...]:
        """Two maps of 2 to 32 groups."""
        return tuple({"groups": groups} for groups in (2, 4, 8, 16, 32))


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
            conv, GroupedPointwise(conv.in_channels, conv.out_channels, conv.bias, maps)
        )


def _widths(conv: Convolution, config: ShuffleConfig) -> list[int]:
    """The channels before, between and behind the maps."""
    between = [min(conv.in_channels, conv.out_channels)] * (config.layers - 1)
    return [conv.in_channels, *between, conv.out_channels]


SUBSTITUTION = ShuffleSubstitution()
