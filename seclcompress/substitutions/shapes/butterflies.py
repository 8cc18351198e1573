"""Butterfly matrices: products of factors that each mix pairs of blocks.

A vector of length N = b·2^m is 2^m blocks of b entries. Factor l mixes every block with the one whose
number differs in digit l alone, in base 2: it is N ÷ 2b matrices of 2b × 2b, one for each such pair. For
b = 1 these are the butterflies of the fast Fourier transform (Dao et al., "Learning Fast Algorithms for
Linear Transforms Using Butterfly Factorizations", ICML 2019).

A factor is stored in shape (N, 2b): the rows of its matrices, pair by pair, in the order of the pairs'
first blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def apply_factors(y: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """Applies the factors to vectors, that of neighbouring blocks first.

    Args:
        y: Shape (..., N).
        factors: m tensors of shape (N, 2b).

    Returns:
        Shape (..., N), in the dtype of y.
    """
    return _apply(y, list(enumerate(factors)), "...gi,goi->...go")


def apply_transposed_factors(y: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """Applies the transposes of the factors, the last one first. Shape (..., N) to (..., N)."""
    return _apply(y, list(enumerate(factors))[::-1], "...gi,gio->...go")


def _apply(y: Tensor, levels: Sequence[tuple[int, Tensor]], product: str) -> Tensor:
    for level, factor in levels:
        side = factor.shape[1]
        # (pairs' higher digits, digit, lower digits, entries of a block)
        parts = y.unflatten(-1, (-1, 2, 2**level, side // 2)).transpose(-3, -2)
        pairs = parts.flatten(-2).flatten(-3, -2)
        matrices = factor.to(y.dtype).unflatten(0, (-1, side))
        mixed = torch.einsum(product, pairs, matrices)
        mixed = mixed.reshape(parts.shape).transpose(-3, -2)
        y = mixed.flatten(-4)
    return y


def factorise(matrix: Tensor, block: int) -> list[Tensor]:
    """Finds factors whose product is near a matrix, and equal to it where there are such factors.

    The last factor is split off first. With the rows of one pair of blocks and the columns of one half,
    a matrix of the family has rank b; the first b singular triples are the nearest such rows. Their left
    vectors are the factor's columns, and the rest are two matrices of half the size, to which the same
    is done (Zheng, Riccietti & Gribonval, "Efficient Identification of Butterfly Sparse Matrix
    Factorizations", 2023, for b = 1).

    The left vectors are orthonormal, so no later error grows on its way through an earlier factor: the
    squared errors of the m − 1 splits add up, and none is above that of the nearest matrix there is. The
    distance is so at most √(m − 1) times the smallest possible one.

    Args:
        matrix: Shape (N, N) with N = block · 2^m, m ≥ 1.
        block: The size b of the blocks.

    Returns:
        m factors for `apply_factors`.
    """
    pieces = matrix[None]
    factors = []
    while (size := pieces.shape[-1]) > 2 * block:
        half, pairs = size // 2, size // (2 * block)
        # From (piece, digit, pair, entry; half, column) to a matrix for each piece, pair and half.
        rows = pieces.reshape(-1, 2, pairs, block, 2, half).permute(0, 2, 4, 1, 3, 5)
        left, values, right = torch.linalg.svd(rows.flatten(3, 4), full_matrices=False)
        columns = left[..., :block].transpose(2, 3)  # (piece, pair, row, half, column)
        factors.append(columns.reshape(-1, 2 * block))
        rest = values[..., :block, None] * right[..., :block, :]
        pieces = rest.transpose(1, 2).reshape(-1, half, half)
    factors.append(pieces.reshape(-1, 2 * block))
    return factors[::-1]
