"""Tucker-2: a small core between two thin matrices of the channels.

`on=pointwise`: a depthwise convolution, then W ≈ U G V as three matrices. `on=kernel`: 1×1 c_in → r1,
k×k r1 → r2, 1×1 r2 → c_out (Kim et al., "Compression of Deep Convolutional Neural Networks for Fast and
Low Power Mobile Applications", ICLR 2016). Both ranks are the same share of their sides.
"""

from __future__ import annotations

import math

from torch import Tensor

from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.substitutions.contract import Substitution
from seclcompress.substitutions.shapes import (
    ChainConv,
    Decomposed,
    ProductPointwise,
    SplitConv,
    Step,
    chain_cost,
    split_cost,
)
from seclcompress.substitutions.shapes.chain import initial_chain
from seclcompress.substitutions.shapes.decomposed import multiplied
from seclcompress.substitutions.shapes.initial import balanced, white_factors
from seclcompress.substitutions.site import Convolution, Site
from seclcompress.substitutions.sized import (
    PlacedConfig,
    largest_size,
    on_kernel,
    refuse_groups,
)
from seclcompress.substitutions.structured import StructuredConv
from seclcompress.substitutions.tensors import tucker_channels


class TuckerConfig(PlacedConfig):
    """Options of the core and the matrices.

    Attributes:
        on: `pointwise`: the matrix of the channels behind a depthwise convolution. `kernel`: the weight
            of the convolution, with a core that has its kernel.
        rank: Both ranks, each cut to what its side can use; 0 takes the same share of both sides, the
            largest that `ratio` allows.
    """


class TuckerPointwise(Decomposed, ProductPointwise):
    """A map of the channels by U G V."""

    def decompose(self, target: Tensor) -> list[Tensor]:
        """The nearest U G V, by singular vectors."""
        out, into = self.matrices[1].shape
        return _in_running_order(target, (out, into))


class TuckerConv(Decomposed, ChainConv):
    """A convolution between two 1×1 convolutions."""

    def decompose(self, target: Tensor) -> list[Tensor]:
        """By higher-order singular values, refined."""
        out, into = self.steps[1].out_channels, self.steps[1].in_channels
        values = _in_running_order(target, (out, into))
        return [
            value.reshape(weight.shape) for value, weight in zip(values, self.weights, strict=True)
        ]


def _in_running_order(target: Tensor, ranks: tuple[int, int]) -> list[Tensor]:
    core, out, into = tucker_channels(target, ranks)
    return balanced([into.mT, core, out])


class TuckerSubstitution(Substitution):
    """A small core between two thin matrices, for the channels or for the whole kernel."""

    name = "tucker"
    title = "Tucker"
    summary = "a small core between two thin matrices, behind a depthwise part or with the kernel"
    Config = TuckerConfig
    executions = EXECUTIONS

    def _refuse(self, site: Site, config: TuckerConfig) -> str | None:
        return refuse_groups(site.convolution, config.on)

    def cost(self, site: Site, config: TuckerConfig) -> LayerCost:
        """`r1·c_in + k·r1·r2 + r2·c_out` parameters; with `on=pointwise` k = 1, and `k·c_in` more."""
        conv = site.convolution
        into, out = _ranks(conv, config)
        note = f"ranks {into:,} and {out:,} of {conv.in_channels:,} and {conv.out_channels:,}"
        steps = _steps(conv, into, out)
        if on_kernel(conv, config.on):
            return chain_cost(site, steps, note=note)
        thin = sum(step.in_channels * step.out_channels for step in steps)
        dense = conv.in_channels * conv.out_channels
        return split_cost(site, thin, {"dense": dense, "fast": thin}, note=note)

    def _build(self, site: Site, config: TuckerConfig) -> StructuredConv:
        conv = site.convolution
        steps = _steps(conv, *_ranks(conv, config))
        if on_kernel(conv, config.on):
            return TuckerConv(conv, steps, initial_chain(conv, steps))
        shapes = [(step.out_channels, step.in_channels) for step in steps]
        matrices = white_factors(conv, shapes, [columns for _, columns in shapes], multiplied)
        return SplitConv(conv, TuckerPointwise(conv.bias, matrices))


def _steps(conv: Convolution, into: int, out: int) -> list[Step]:
    space = tuple(range(len(conv.kernel_size)))
    return [Step(conv.in_channels, into), Step(into, out, space), Step(out, conv.out_channels)]


def _ranks(conv: Convolution, config: TuckerConfig) -> tuple[int, int]:
    """The ranks of the input and of the output side."""
    whole = on_kernel(conv, config.on)
    sides = conv.in_channels, conv.out_channels
    places = math.prod(conv.kernel_size) if whole else 1

    def usable(into: int, out: int) -> tuple[int, int]:
        # A side of the core has no higher rank than the product of its other sides.
        return min(into, out * places), min(out, into * places)

    if config.rank:
        return usable(*(min(config.rank, side) for side in sides))
    longest = max(sides)

    def shares(size: int) -> tuple[int, int]:
        into, out = (-(-side * size // longest) for side in sides)
        return usable(into, out)

    def parameters(size: int) -> int:
        into, out = shares(size)
        return sides[0] * into + into * out * places + sides[1] * out

    dense = sides[0] * sides[1] * places
    return shares(largest_size(parameters, config.ratio, dense, longest))


SUBSTITUTION = TuckerSubstitution()
