"""Decompositions of tensors by TensorLy, imported where they are used.

TensorLy computes with torch here, in this thread and for the time of one call; its backend is the
caller's own again afterwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from seclcompress import extras

_STEPS, _TOLERANCE = 30, 1e-4  # of the relative error, per step
# For a tensor of norm 1. Without it components that cancel each other out grow without bound.
_RIDGE = 1e-6


@contextmanager
def _tensorly() -> Iterator[Any]:
    extras.need("--start original with this substitution", "decompose", "tensorly")
    import tensorly.decomposition

    with tensorly.backend_context("pytorch", local_threadsafe=True), warnings.catch_warnings():
        # More components than a side is long: the others start at random, as they should.
        warnings.filterwarnings("ignore", message="Trying to compute SVD with n_eigenvecs")
        yield tensorly.decomposition


def tucker_channels(weight: Tensor, ranks: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Decomposes a convolution's weight over its two channel sides (Tucker-2).

    The start is the HOSVD (De Lathauwer, De Moor & Vandewalle, "A Multilinear Singular Value
    Decomposition", 2000), refined by orthogonal iteration (HOOI, the same authors, 2000).

    Args:
        weight: Shape (out_channels, in_channels, *kernel_size).
        ranks: The ranks of the output and of the input side.

    Returns:
        The core, shape (*ranks, *kernel_size), and matrices with orthonormal columns, of shapes
        (out_channels, ranks[0]) and (in_channels, ranks[1]).
    """
    with _tensorly() as decomposition:
        (core, (out, into)), _ = decomposition.partial_tucker(
            weight, rank=list(ranks), modes=[0, 1], n_iter_max=_STEPS, tol=_TOLERANCE
        )
    return core, out, into


def canonical(tensor: Tensor, rank: int) -> list[Tensor]:
    """Approximates a tensor by a sum of products of vectors (CP).

    With as many components as there are fibres along the longest side the sum is the tensor itself, and
    each component is one of them. Otherwise alternating least squares (Carroll & Chang;
    Harshman, 1970) from the singular vectors of the unfoldings and a fixed seed.

    Args:
        tensor: Two or more sides, not all zeros.
        rank: Number of components, at most one for each fibre along the longest side.

    Returns:
        A matrix of shape (side, rank) for each side. In each component all vectors have the same norm.
    """
    longest = max(range(tensor.dim()), key=lambda side: tensor.shape[side])
    if rank == tensor.numel() // tensor.shape[longest]:
        factors = _every_fibre(tensor, longest)
    else:
        size = tensor.norm()
        with _tensorly() as decomposition:
            weights, factors = decomposition.parafac(
                tensor / size,
                rank,
                n_iter_max=_STEPS,
                tol=_TOLERANCE,
                l2_reg=_RIDGE,
                random_state=0,
            )
        factors = [factors[0] * (weights * size), *factors[1:]]
    norms = torch.stack([factor.norm(dim=0) for factor in factors])
    mean = norms.prod(dim=0) ** (1 / len(factors))
    return [
        factor * (mean / norm.clamp(min=1e-30)) for factor, norm in zip(factors, norms, strict=True)
    ]


def _every_fibre(tensor: Tensor, along: int) -> list[Tensor]:
    """A component for each fibre along a side: the fibre, and unit vectors for its place."""
    others = [size for side, size in enumerate(tensor.shape) if side != along]
    places = torch.arange(tensor.numel() // tensor.shape[along], device=tensor.device)
    factors = [
        torch.nn.functional.one_hot(place, size).mT.to(tensor.dtype)
        for place, size in zip(torch.unravel_index(places, others), others, strict=True)
    ]
    factors.insert(along, tensor.movedim(along, 0).flatten(1))
    return factors


def tensor_train(tensor: Tensor, ranks: Sequence[int]) -> list[Tensor]:
    """Decomposes a tensor to a train of cores by truncated SVDs from left to right.

    TT-SVD (Oseledets, "Tensor-Train Decomposition", 2011).

    Args:
        tensor: Two or more sides.
        ranks: The ranks between neighbouring cores, each at most the full one there.

    Returns:
        Cores of shape (rank before, side, rank behind); the ranks at both ends are 1.
    """
    with _tensorly() as decomposition:
        return list(decomposition.tensor_train(tensor, rank=[1, *ranks, 1]))
