"""Kronecker: a sum of Kronecker products of two small matrices.

    W ≈ Σ_t A_t ⊗ B_t,    t = 1 … terms

A_t has shape (o₁, i₁) and B_t (o₂, i₂) with o₁·o₂ = c_out and i₁·i₂ = c_in. With `on=kernel` the
positions of the kernel belong to B_t. The entries of W, rearranged to a matrix of (o₁·i₁) × (o₂·i₂),
have at most the rank of the number of terms. So the truncated singular value decomposition of that
matrix gives the nearest sum (Van Loan & Pitsianis, "Approximation with Kronecker Products", 1993).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.substitutions.contract import Substitution
from seclcompress.substitutions.low_rank import thin_factors
from seclcompress.substitutions.shapes import (
    Decomposed,
    FactoredPointwise,
    SplitConv,
    full_cost,
    split_cost,
)
from seclcompress.substitutions.shapes.chain import TwoWayConv
from seclcompress.substitutions.shapes.convolve import convolve, in_layout_of
from seclcompress.substitutions.shapes.initial import white_factors
from seclcompress.substitutions.shapes.precision import at_least_float32
from seclcompress.substitutions.shapes.quickest import BLOCKS, quickest
from seclcompress.substitutions.site import Convolution, Site
from seclcompress.substitutions.sized import (
    LARGEST_RANK,
    On,
    SizedConfig,
    divisors,
    largest_size,
    on_kernel,
    refuse_groups,
)
from seclcompress.substitutions.structured import StructuredConv


class KroneckerConfig(SizedConfig):
    """Options of a sum of Kronecker products.

    Attributes:
        on: `pointwise`: the matrix of the channels behind a depthwise convolution. `kernel`: the whole
            convolution.
        terms: The number of products in every layer, cut to the full one; 0 takes the most that `ratio`
            allows.
    """

    on: On = Field(default="pointwise", description="what is structured")
    terms: int = Field(
        default=0, ge=0, le=LARGEST_RANK, description="products in every layer; 0: by the ratio"
    )


class Sides(NamedTuple):
    """The shapes of A_t, (o₁, i₁), and of B_t, (o₂, i₂, positions)."""

    out_a: int
    in_a: int
    out_b: int
    in_b: int
    positions: int

    @property
    def parameters(self) -> int:
        """Numbers of one term."""
        return self.out_a * self.in_a + self.out_b * self.in_b * self.positions

    @property
    def full(self) -> int:
        """The number of terms from which on every weight can be represented."""
        return min(self.out_a * self.in_a, self.out_b * self.in_b * self.positions)

    @property
    def mult_adds(self) -> int:
        """Mult-Adds of one term for one output position: B_t on each of i₁ parts, then A_t."""
        return self.in_a * self.out_b * (self.in_b * self.positions + self.out_a)


class _Kronecker(Decomposed):
    """What the map of the channels and the whole convolution share."""

    a: nn.Parameter
    b: nn.Parameter
    sides: Sides
    _shape: tuple[int, ...]

    def _take(self, shape: tuple[int, ...], sides: Sides, factors: Sequence[Tensor]) -> None:
        self._shape, self.sides = shape, sides
        self.a, self.b = (nn.Parameter(factor) for factor in factors)

    def factors(self) -> list[nn.Parameter]:
        """A_t of shape (terms, o₁, i₁), and B_t of shape (terms, o₂, i₂ · positions)."""
        return [self.a, self.b]

    def make_weight(self) -> Tensor:
        """Multiplies the terms out and adds them up, in the shape of the weight."""
        wide = [at_least_float32(factor) for factor in self.factors()]
        return multiplied_out(wide, self.sides).reshape(self._shape).to(self.a.dtype)

    def decompose(self, target: Tensor) -> list[Tensor]:
        """The first singular triples of the rearranged weight."""
        sides, terms = self.sides, self.a.shape[0]
        pairs = target.reshape(sides.out_a, sides.out_b, sides.in_a, sides.in_b, sides.positions)
        rearranged = pairs.transpose(1, 2).reshape(sides.out_a * sides.in_a, -1)
        b, a = thin_factors(rearranged, terms)
        return [a.mT.reshape(self.a.shape), b.reshape(self.b.shape)]


class KroneckerPointwise(_Kronecker, FactoredPointwise):
    """A map of the channels that is a sum of Kronecker products.

    Args:
        bias: The initial bias, or None.
        sides: The shapes of a term.
        factors: The initial A and B, see `factors`.
    """

    executions = EXECUTIONS

    def __init__(self, bias: Tensor | None, sides: Sides, factors: Sequence[Tensor]) -> None:
        shape = (sides.out_a * sides.out_b, sides.in_a * sides.in_b)
        super().__init__(shape[1], shape[0], bias)
        self._take(shape, sides, factors)

    def transform(self, x: Tensor) -> Tensor:
        """Applies B_t to each part of the channels, and A_t across the parts."""
        parts = x.unflatten(-1, (self.sides.in_a, self.sides.in_b))
        inner = torch.einsum("...ij,tpj->...tip", parts, self.b.to(x.dtype))
        return torch.einsum("...tip,toi->...op", inner, self.a.to(inner.dtype)).flatten(-2)

    def quickest_in_training(self, positions: int) -> str:
        """The execution that makes a training step cheaper; `dense` multiplies the terms out first."""
        terms, dense = self.a.shape[0], self.in_channels * self.out_channels
        fast = positions * terms * self.sides.mult_adds
        narrower = min(self.in_channels, self.out_channels)
        return quickest(fast, (terms + positions) * dense, narrower, BLOCKS)

    def extra_repr(self) -> str:
        """Channels and terms."""
        return f"{self.in_channels}, {self.out_channels}, terms={self.a.shape[0]}"


class KroneckerConv(_Kronecker, TwoWayConv):
    """A whole convolution that is a sum of Kronecker products.

    Args:
        conv: The convolution to replace.
        sides: The shapes of a term.
        factors: The initial A and B, see `factors`.
    """

    overhead = BLOCKS

    def __init__(self, conv: Convolution, sides: Sides, factors: Sequence[Tensor]) -> None:
        super().__init__(conv)
        self._take(tuple(conv.weight.shape), sides, factors)

    def by_factors(self, x: Tensor) -> Tensor:
        """Convolves each part of the channels with all B_t, and applies A_t across the parts."""
        sides, terms = self.sides, self.a.shape[0]
        parts = x.unflatten(1, (sides.in_a, sides.in_b)).flatten(0, 1)
        kernel = self.b.reshape(terms * sides.out_b, sides.in_b, *self.kernel_size).to(x.dtype)
        inner = convolve(parts, kernel, None, self)
        inner = inner.unflatten(1, (terms, sides.out_b)).unflatten(0, (x.shape[0], sides.in_a))
        a = self.a.to(inner.dtype)
        y = torch.einsum("nitp...,toi->nop...", inner, a).flatten(1, 2)
        if self.bias is not None:
            y = y + self.bias.to(y.dtype).reshape(-1, *[1] * len(self.kernel_size))
        return in_layout_of(x, y)

    def mult_adds_of_weight(self) -> int:
        """Mult-Adds of `make_weight`."""
        return self.a.shape[0] * math.prod(self._shape)

    def mult_adds_by_factors(self, into: Sequence[int], out: Sequence[int]) -> int:  # noqa: ARG002
        """Mult-Adds of `by_factors` for one image."""
        return self.a.shape[0] * self.sides.mult_adds * math.prod(out)


def multiplied_out(factors: Sequence[Tensor], sides: Sides) -> Tensor:
    """The sum of the products, shape (c_out, c_in · positions).

    Args:
        factors: A of shape (terms, o₁, i₁) and B of shape (terms, o₂, i₂ · positions).
        sides: The shapes of a term.
    """
    a, b = factors
    weight = torch.einsum("toi,tpj->opij", a, b)
    return weight.reshape(sides.out_a * sides.out_b, -1)


class KroneckerSubstitution(Substitution):
    """A sum of Kronecker products, for the channels or for the whole kernel."""

    name = "kronecker"
    title = "Kronecker"
    summary = "a sum of Kronecker products, behind a depthwise part or for the whole kernel"
    Config = KroneckerConfig
    executions = EXECUTIONS

    def _refuse(self, site: Site, config: KroneckerConfig) -> str | None:
        return refuse_groups(site.convolution, config.on)

    def cost(self, site: Site, config: KroneckerConfig) -> LayerCost:
        """`k·c_in + terms·(o₁i₁ + o₂i₂)` parameters, or `terms·(o₁i₁ + o₂i₂k)` with `on=kernel`.

        Run by two small products a term, it takes `terms·i₁o₂(i₂ + o₁)` Mult-Adds at a position, or
        `terms·i₁o₂(i₂k + o₁)`.
        """
        conv = site.convolution
        sides = _sides(conv, config)
        terms = _terms(sides, config)
        weights, fast = terms * sides.parameters, terms * sides.mult_adds
        small = f"{sides.out_a}×{sides.in_a} ⊗ {sides.out_b}×{sides.in_b}"
        note = f"{terms:,} of {sides.full:,} terms {small}"
        if on_kernel(conv, config.on):
            dense = full_cost(site, weights).mult_adds
            by_factors = fast * site.output_positions
            bias = 0 if conv.bias is None else conv.out_channels
            return LayerCost(weights + bias, {**dense, "fast": by_factors}, note)
        dense_weights = conv.in_channels * conv.out_channels
        return split_cost(site, weights, {"dense": dense_weights, "fast": fast}, note=note)

    def _build(self, site: Site, config: KroneckerConfig) -> StructuredConv:
        conv = site.convolution
        sides = _sides(conv, config)
        terms = _terms(sides, config)
        columns = sides.in_b * sides.positions
        factors = white_factors(
            conv,
            [(terms, sides.out_a, sides.in_a), (terms, sides.out_b, columns)],
            [terms * sides.in_a, columns],
            lambda drawn: multiplied_out(drawn, sides),
        )
        if on_kernel(conv, config.on):
            return KroneckerConv(conv, sides, factors)
        return SplitConv(conv, KroneckerPointwise(conv.bias, sides, factors))


def _sides(conv: Convolution, config: KroneckerConfig) -> Sides:
    """The shapes of a term with the fewest numbers: A and B of about equal size.

    Among these, the sides nearest to the square roots of the channels, and then the fewest Mult-Adds.
    """
    c_in, c_out = conv.in_channels, conv.out_channels
    positions = math.prod(conv.kernel_size) if on_kernel(conv, config.on) else 1
    every = [
        Sides(out_a, in_a, c_out // out_a, c_in // in_a, positions)
        for out_a in divisors(c_out)
        for in_a in divisors(c_in)
    ]
    return min(every, key=lambda sides: (sides.parameters, sum(sides), sides.mult_adds, sides))


def _terms(sides: Sides, config: KroneckerConfig) -> int:
    if config.terms:
        return min(config.terms, sides.full)
    dense = sides.out_a * sides.out_b * sides.in_a * sides.in_b * sides.positions
    return largest_size(lambda terms: terms * sides.parameters, config.ratio, dense, sides.full)


SUBSTITUTION = KroneckerSubstitution()
