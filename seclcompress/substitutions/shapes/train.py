"""Tensor trains of a matrix of the channels, or of such a matrix at every position of a kernel.

`W[k, (i_1 … i_d), (j_1 … j_d)] = G_0[k] G_1[i_1, j_1] … G_d[i_d, j_d]`, with a row G_0[k] and matrices
G_l[i, j] of the TT-ranks (Novikov et al., "Tensorizing Neural Networks", 2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from seclcompress.substitutions.shapes.initial import balanced
from seclcompress.substitutions.tensors import tensor_train


@dataclass(frozen=True)
class Train:
    """The shape of a train.

    Attributes:
        places: Positions of the kernel that have a core of their own; 1 without such a core.
        sides: The factors of the channels: outputs m and inputs n for each core.
        ranks: The rank in front of each core of the channels, and 1 at the end.
    """

    places: int
    sides: tuple[tuple[int, int], ...]
    ranks: tuple[int, ...]

    @property
    def cores(self) -> list[tuple[int, int, int, int]]:
        """The shapes of the cores of the channels: rank before, m, n, rank behind."""
        links = pairwise(self.ranks)
        return [(r, m, n, s) for (m, n), (r, s) in zip(self.sides, links, strict=True)]

    @property
    def words(self) -> str:
        """The channels as products, and the inner ranks."""
        rows, columns = ("·".join(map(str, side)) for side in zip(*self.sides, strict=True))
        inner = self.ranks[:-1] if self.places > 1 else self.ranks[1:-1]
        return f"{columns} → {rows} channels, TT-ranks {', '.join(map(str, inner))}"

    @property
    def parameters(self) -> int:
        """Numbers in all cores."""
        first = self.places * self.ranks[0] if self.places > 1 else 0
        return first + sum(map(math.prod, self.cores))

    @property
    def vector(self) -> int:
        """Mult-Adds of the cores of the channels for one vector of channels."""
        total, rest = 0, math.prod(n for _, n in self.sides)
        made = 1
        for r, m, n, s in self.cores:
            rest //= n
            total += made * r * m * n * s * rest
            made *= m
        return total

    @property
    def matrix(self) -> int:
        """Mult-Adds of multiplying all cores out."""
        total, entries = 0, 1
        for place, (r, m, n, s) in enumerate(self.cores):
            if place:
                total += self.ranks[0] * entries * r * m * n * s
            entries *= m * n
        return total + (self.places * self.ranks[0] * entries if self.places > 1 else 0)


def through(y: Tensor, cores: Sequence[Tensor]) -> Tensor:
    """Applies cores to vectors.

    Args:
        y: Shape (..., rank in front of the first core, in_channels).
        cores: See `Train.cores`; the last rank is 1.

    Returns:
        Shape (..., out_channels).
    """
    where, channels = y.shape[:-2], y.shape[-1]
    y = y.reshape(-1, 1, y.shape[-2], channels)
    for core in cores:
        y = y.unflatten(-1, (core.shape[2], -1))
        y = torch.einsum("pirnq,rmns->pimsq", y, core.to(y.dtype)).flatten(1, 2)
    return y.reshape(*where, -1)


def multiplied_out(cores: Sequence[Tensor]) -> Tensor:
    """Multiplies cores out to a matrix for each entry of the rank in front of the first one.

    Args:
        cores: See `Train.cores`; the last rank is 1.

    Returns:
        Shape (rank in front, out_channels, in_channels).
    """
    first, *others = cores
    made = first
    for core in others:
        made = torch.einsum("aijr,rmns->aimjns", made, core).flatten(1, 2).flatten(2, 3)
    return made.squeeze(-1)


def decomposed(target: Tensor, train: Train) -> list[Tensor]:
    """Decomposes a weight by truncated SVDs.

    Args:
        target: Shape (out_channels, in_channels, places).
        train: The shape of the train.

    Returns:
        The cores with equal norms; the first one is that of the places, shape (rank, places), if there
        are several.
    """
    rows, columns = zip(*train.sides, strict=True)
    tensor = target.movedim(-1, 0).reshape(train.places, *rows, *columns)
    d = len(train.sides)
    pairs = [axis for core in range(1, d + 1) for axis in (core, core + d)]
    tensor = tensor.permute(0, *pairs).reshape(train.places, *(m * n for m, n in train.sides))
    if train.places == 1:
        cores = tensor_train(tensor[0], train.ranks[1:-1])
    else:
        filters, *cores = tensor_train(tensor, train.ranks[:-1])
    cores = [core.reshape(shape) for core, shape in zip(cores, train.cores, strict=True)]
    return balanced(cores if train.places == 1 else [filters[0].mT, *cores])


def near_equal_factors(number: int, parts: int) -> list[int]:
    """Cuts a number into factors that are as equal as a greedy choice makes them.

    Its prime factors, the largest first, each go to the product that is smallest so far.

    Args:
        number: 1 or more.
        parts: How many factors; where there are not enough, some are 1.

    Returns:
        The factors, ascending; their product is the number.
    """
    primes, rest, candidate = [], number, 2
    while candidate * candidate <= rest:
        while rest % candidate == 0:
            primes.append(candidate)
            rest //= candidate
        candidate += 1
    primes += [rest] if rest > 1 else []
    products = [1] * parts
    for prime in reversed(primes):
        products[products.index(min(products))] *= prime
    return sorted(products)


def channel_sides(
    in_channels: int, out_channels: int, cores: int
) -> tuple[tuple[int, int], ...] | None:
    """The factors (m, n) of each core; None if a core would have one entry only.

    Large n stand beside small m, so that the cores have similar sizes and the vectors shrink early.

    Args:
        in_channels: n_1 n_2 … n_d.
        out_channels: m_1 m_2 … m_d.
        cores: d.
    """
    rows = near_equal_factors(out_channels, cores)
    columns = near_equal_factors(in_channels, cores)
    sides = tuple(zip(rows, reversed(columns), strict=True))
    return None if any(m * n == 1 for m, n in sides) else sides


def full_ranks(places: int, sides: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The ranks with which a train is any weight, see `Train.ranks`.

    Args:
        places: See `Train`.
        sides: See `Train`.
    """
    sizes = [places, *(m * n for m, n in sides)]
    whole = math.prod(sizes)
    return tuple(min(left, whole // left) for left in accumulate(sizes, lambda one, two: one * two))
