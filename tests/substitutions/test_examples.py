"""The example families, one for each shape, keep the promises of their shapes."""

from __future__ import annotations

from examples import acdc_depthwise, bottleneck_block, gains, low_rank, symmetric_full
from promises import BlockPromises, FactoredPromises, FullPromises, SplitPromises


class TestSymmetric(FullPromises):
    family = symmetric_full.SUBSTITUTION
    channels = (8, 8)


class TestGains(FullPromises):
    """A family that hardly changes the number of parameters."""

    family = gains.SUBSTITUTION
    cases = ({}, {"identity": 0.5})
    linear = "gains is not for Linear layers"


class TestBottleneck(BlockPromises):
    family = bottleneck_block.SUBSTITUTION
    cases = ({}, {"reduction": 5, "groups": 2})
    linear = "bottleneck_block is not for Linear layers"


class TestLowRank(SplitPromises, FactoredPromises):
    family = low_rank.SUBSTITUTION
    cases = ({}, {"rank": 5})


class TestAcdcDepthwise(SplitPromises, FactoredPromises):
    """SECL-LR's filters: a family with structure in the depthwise part."""

    family = acdc_depthwise.SUBSTITUTION
    kernels = (3,)
    dimensions = (2,)
    linear = "a Linear has no space"
