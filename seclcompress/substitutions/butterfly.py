"""Butterfly: a depthwise convolution followed by a butterfly matrix.

Dao et al., "Learning Fast Algorithms for Linear Transforms Using Butterfly Factorizations", ICML 2019;
with blocks for single numbers Chen et al., "Pixelated Butterfly", ICLR 2022:

    y = fold( F_m … F_2 F_1 · expand(x) )

`F_l` mixes pairs of blocks of b entries, see `shapes.butterflies`. Their length N = b·2^m is at least
the larger number of channels; `expand` repeats the inputs, and `fold` adds the outputs up, as in ACDC.
With b = 1 there are 2N·log₂ N numbers, with b = N ÷ 2 the N² of any matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.substitutions.contract import Substitution
from seclcompress.substitutions.shapes import FactoredPointwise, SplitConv, split_cost
from seclcompress.substitutions.shapes.butterflies import (
    apply_factors,
    apply_transposed_factors,
    factorise,
)
from seclcompress.substitutions.shapes.initial import balanced, random_orthogonal, whitened
from seclcompress.substitutions.shapes.precision import (
    at_least_float32,
    wide_dtype,
    without_autocast,
)
from seclcompress.substitutions.shapes.quickest import PAIRS, quickest
from seclcompress.substitutions.site import Convolution, Site
from seclcompress.substitutions.sized import LARGEST_RANK, SizedConfig, budget
from seclcompress.transforms import expand, fold

_EXACT = 1e-6  # a relative error that gradient descent would not better


class ButterflyConfig(SizedConfig):
    """Options of a butterfly matrix.

    Attributes:
        ratio: Parameters of the factors, at most, divided by those of a dense matrix.
        block: The size b of the blocks in every layer; 0 takes, of the sizes that `ratio` allows, the
            one with the shortest N, and of these that with the most parameters.
    """

    block: int = Field(
        default=0, ge=0, le=LARGEST_RANK, description="size of the blocks; 0: by the ratio"
    )


class Size(NamedTuple):
    """The size b of the blocks, and the number m of factors."""

    block: int
    factors: int

    @property
    def length(self) -> int:
        """N."""
        return self.block * 2**self.factors

    @property
    def parameters(self) -> int:
        """`2Nbm`; as many Mult-Adds at a position."""
        return 2 * self.length * self.block * self.factors


class ButterflyPointwise(FactoredPointwise):
    """A map of the channels by a butterfly matrix.

    Args:
        conv: The convolution to replace.
        size: The size of the matrix.
        factors: The initial factors, see `shapes.butterflies`.
    """

    executions = EXECUTIONS

    def __init__(self, conv: Convolution, size: Size, factors: Sequence[Tensor]) -> None:
        super().__init__(conv.in_channels, conv.out_channels, conv.bias)
        self.size = size
        self.mixes = nn.ParameterList(nn.Parameter(factor) for factor in factors)

    def factors(self) -> list[nn.Parameter]:
        """The factors, in running order."""
        return list(self.mixes)

    def make_weight(self) -> Tensor:
        """Multiplies the factors out to a matrix of shape (out_channels, in_channels)."""
        with without_autocast(self.mixes[0]):
            wide = [at_least_float32(factor) for factor in self.mixes]
            matrix = multiplied_out(wide, self.in_channels, self.out_channels)
            return matrix.to(self.mixes[0].dtype)

    def transform(self, x: Tensor) -> Tensor:
        """Applies the factors one after another to vectors."""
        with without_autocast(x):
            wide = expand(x.to(wide_dtype(self.mixes[0].dtype)), self.size.length)
            return fold(apply_factors(wide, list(self.mixes)), self.out_channels).to(x.dtype)

    def quickest_in_training(self, positions: int) -> str:
        """The execution that makes a training step cheaper; `dense` makes W from all unit vectors."""
        vector = self.size.parameters
        narrower = min(self.in_channels, self.out_channels)
        matrix = narrower * vector + positions * self.in_channels * self.out_channels
        return quickest(positions * vector, matrix, narrower, PAIRS)

    def fit_weight(self, target: Tensor) -> float:
        """Brings the matrix near a target by hierarchical factorisation.

        Where N is the number of inputs and of outputs, that is all. Otherwise the target is a corner of
        a larger matrix; what the other entries can add is found by gradient descent from there.

        Args:
            target: Shape (out_channels, in_channels).

        Returns:
            The relative error, ‖W − target‖ ÷ ‖target‖ (Frobenius); 1 for a target of zeros, for which
            nothing changes.
        """
        norm = float(target.double().norm())
        if norm == 0:
            return super().fit_weight(target)
        self.forget_weight()
        length = self.size.length
        whole = target.new_zeros(length, length, dtype=torch.float64)
        whole[: self.out_channels, : self.in_channels] = target.detach()
        found = balanced(factorise(whole, self.size.block))
        with torch.no_grad():
            self._put(found)
            left = float((self.make_weight().double() - target).norm()) / norm
        if self.in_channels == self.out_channels == length or left < _EXACT:
            return left
        after = super().fit_weight(target)
        if after < left:
            return after
        with torch.no_grad():
            self._put(found)
        return left

    def _put(self, values: Sequence[Tensor]) -> None:
        for factor, value in zip(self.mixes, values, strict=True):
            factor.copy_(value)

    def extra_repr(self) -> str:
        """Channels, blocks and length."""
        sizes = f"block={self.size.block}, length={self.size.length}"
        return f"{self.in_channels}, {self.out_channels}, {sizes}"


def multiplied_out(factors: Sequence[Tensor], in_channels: int, out_channels: int) -> Tensor:
    """The matrix of `fold`, the factors and `expand`, shape (out_channels, in_channels).

    The factors run on the unit vectors of the inputs, or their transposes on those of the outputs, if
    these are fewer.

    Args:
        factors: See `shapes.butterflies`.
        in_channels: At most N.
        out_channels: At most N.
    """
    example = factors[0]
    narrower = min(in_channels, out_channels)
    unit = torch.eye(narrower, dtype=example.dtype, device=example.device)
    vectors = expand(unit, example.shape[0])
    if out_channels < in_channels:
        return fold(apply_transposed_factors(vectors, factors), in_channels).contiguous()
    return fold(apply_factors(vectors, factors), out_channels).mT.contiguous()


class ButterflySubstitution(Substitution):
    """Depthwise + a butterfly matrix."""

    name = "butterfly"
    title = "Butterfly"
    summary = "depthwise + a butterfly matrix: 2N·log₂ N numbers, or more with blocks"
    Config = ButterflyConfig
    executions = EXECUTIONS

    def _refuse(self, site: Site, config: ButterflyConfig) -> str | None:
        most = _widest(site.convolution)
        if config.block > most:
            return f"blocks of {config.block:,} are larger than its {most:,} channels"
        return None

    def cost(self, site: Site, config: ButterflyConfig) -> LayerCost:
        """`k·c_in + 2Nb·log₂(N ÷ b)` parameters; `fast` takes `2Nb·log₂(N ÷ b)` at a position."""
        conv = site.convolution
        size = _size(conv, config)
        numbers = size.parameters
        note = f"N is {size.length:,}, 2^{size.factors} blocks of {size.block:,}"
        dense = conv.in_channels * conv.out_channels
        if not config.block and numbers > budget(config.ratio, dense):
            note += f", the fewest numbers there are: {numbers / dense:.2g} of the dense map's"
        return split_cost(site, numbers, {"dense": dense, "fast": numbers}, note=note)

    def _build(self, site: Site, config: ButterflyConfig) -> SplitConv:
        conv = site.convolution
        size = _size(conv, config)
        side = 2 * size.block
        if conv.weight.is_meta:  # needs no values, and a stranger's file may ask for huge ones
            factors = [conv.weight.new_empty(size.length, side) for _ in range(size.factors)]
        else:
            pairs = size.length // side
            drawn = [random_orthogonal((pairs, side, side)) for _ in range(size.factors)]
            factors = whitened(
                conv,
                [matrices.flatten(0, 1) for matrices in drawn],
                lambda flat: multiplied_out(flat, conv.in_channels, conv.out_channels),
            )
        return SplitConv(conv, ButterflyPointwise(conv, size, factors))


def _widest(conv: Convolution) -> int:
    return max(conv.in_channels, conv.out_channels)


def _with_block(block: int, channels: int) -> Size:
    """The shortest butterfly matrix with blocks of a size for a number of channels."""
    blocks = -(-channels // block)
    return Size(block, max(1, (blocks - 1).bit_length()))


def _size(conv: Convolution, config: ButterflyConfig) -> Size:
    channels = _widest(conv)
    if config.block:
        return _with_block(config.block, channels)
    every = [_with_block(block, channels) for block in range(1, (channels + 1) // 2 + 1)]
    allowed = budget(config.ratio, conv.in_channels * conv.out_channels)
    fitting = [size for size in every if size.parameters <= allowed]
    if not fitting:
        return min(every, key=lambda size: size.parameters)
    return min(fitting, key=lambda size: (size.length, -size.parameters, -size.block))


SUBSTITUTION = ButterflySubstitution()
