"""Low rank: a product of two thin matrices, W ≈ U V.

`on=pointwise`: a depthwise convolution, then c_in → r → c_out. `on=kernel`: a k×k convolution c_in → r,
then 1×1 r → c_out (Zhang, Zou, He & Sun, "Accelerating Very Deep Convolutional Networks", 2015, without
their nonlinearities; for matrices Denil et al., "Predicting Parameters in Deep Learning", 2013). The
truncated singular value decomposition is the nearest product of rank r (Eckart & Young, 1936).
"""

from __future__ import annotations

import math

import torch
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
from seclcompress.substitutions.shapes.initial import white_factors, zero_below
from seclcompress.substitutions.site import Convolution, Site
from seclcompress.substitutions.sized import PlacedConfig, chosen_rank, on_kernel, refuse_groups
from seclcompress.substitutions.structured import StructuredConv


class LowRankConfig(PlacedConfig):
    """Options of a product of two thin matrices.

    Attributes:
        on: `pointwise`: the matrix of the channels behind a depthwise convolution. `kernel`: the matrix
            from all inputs of a kernel to the output channels.
    """


class LowRankPointwise(Decomposed, ProductPointwise):
    """A map of the channels of rank r, by two matrices."""

    def decompose(self, target: Tensor) -> list[Tensor]:
        """The first r singular triples."""
        return thin_factors(target, self.matrices[0].shape[0])


class LowRankConv(Decomposed, ChainConv):
    """A convolution to r channels, and a 1×1 convolution to all of them."""

    def decompose(self, target: Tensor) -> list[Tensor]:
        """The first r singular triples of the matrix from all inputs to the output channels."""
        into, out = thin_factors(target.flatten(1), self.steps[0].out_channels)
        return [into.reshape(self.weights[0].shape), out.reshape(self.weights[1].shape)]


def thin_factors(matrix: Tensor, rank: int) -> list[Tensor]:
    """The nearest product of two matrices to one: √S Vᵀ and U √S, from its first singular triples.

    Args:
        matrix: Shape (rows, columns).
        rank: At most the smaller of these.

    Returns:
        Matrices of shapes (rank, columns) and (rows, rank), the one that runs first first.
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    # A component that is zero on both sides would never get a gradient: one side keeps its direction.
    first = torch.where(values[:rank] > zero_below(values), root, root.mean())
    return [first[:, None] * right[:rank], left[:, :rank] * root]


class LowRankSubstitution(Substitution):
    """A product of two thin matrices, for the channels or for the whole kernel."""

    name = "low_rank"
    title = "Low rank"
    summary = "two thin matrices in a row, behind a depthwise part or for the whole kernel"
    Config = LowRankConfig
    executions = EXECUTIONS

    def _refuse(self, site: Site, config: LowRankConfig) -> str | None:
        return refuse_groups(site.convolution, config.on)

    def cost(self, site: Site, config: LowRankConfig) -> LayerCost:
        """`k·c_in + r(c_in + c_out)` parameters, or `r(k·c_in + c_out)` with `on=kernel`."""
        conv = site.convolution
        rank, full = _rank(conv, config), _full_rank(conv, config)
        note = f"rank {rank:,} of {full:,}"
        if on_kernel(conv, config.on):
            return chain_cost(site, _steps(conv, rank), note=note)
        thin = rank * (conv.in_channels + conv.out_channels)
        dense = conv.in_channels * conv.out_channels
        return split_cost(site, thin, {"dense": dense, "fast": thin}, note=note)

    def _build(self, site: Site, config: LowRankConfig) -> StructuredConv:
        conv = site.convolution
        rank = _rank(conv, config)
        if on_kernel(conv, config.on):
            steps = _steps(conv, rank)
            return LowRankConv(conv, steps, initial_chain(conv, steps))
        shapes = [(rank, conv.in_channels), (conv.out_channels, rank)]
        matrices = white_factors(conv, shapes, [columns for _, columns in shapes], multiplied)
        return SplitConv(conv, LowRankPointwise(conv.bias, matrices))


def _steps(conv: Convolution, rank: int) -> list[Step]:
    space = tuple(range(len(conv.kernel_size)))
    return [Step(conv.in_channels, rank, space), Step(rank, conv.out_channels)]


def _columns(conv: Convolution, config: LowRankConfig) -> int:
    """The inputs of one output: those of the channels, or of the kernel."""
    whole = on_kernel(conv, config.on)
    return conv.in_channels * (math.prod(conv.kernel_size) if whole else 1)


def _full_rank(conv: Convolution, config: LowRankConfig) -> int:
    return min(_columns(conv, config), conv.out_channels)


def _rank(conv: Convolution, config: LowRankConfig) -> int:
    rows, columns = conv.out_channels, _columns(conv, config)
    return chosen_rank(
        config, lambda r: r * (rows + columns), rows * columns, _full_rank(conv, config)
    )


SUBSTITUTION = LowRankSubstitution()
