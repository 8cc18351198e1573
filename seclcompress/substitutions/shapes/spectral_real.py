"""Stacks with the Fourier transform in real arithmetic, for graphs without complex numbers.

A vector of N complex numbers is one of 2N real ones: the real parts, then the imaginary parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def fourier_matrix(length: int, like: Tensor) -> Tensor:
    """The orthonormal Fourier transform of vectors as rows; its transpose is the inverse.

    Args:
        length: The length N.
        like: A tensor of the matrix's dtype and device.

    Returns:
        Shape (2N, 2N).
    """
    place = torch.arange(length, device=like.device)
    angle = (place[:, None] * place % length).to(like.dtype) * (2 * math.pi / length)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    rows = [torch.cat([cosine, -sine], dim=1), torch.cat([sine, cosine], dim=1)]
    return torch.cat(rows) * (1 / math.sqrt(length))


def run_fourier(
    y: Tensor,
    a: Tensor,
    d: Tensor,
    block: int,
    permute: Callable[[Tensor], Tensor],
    *,
    transposed: bool,
) -> Tensor:
    """Runs the layers `A F D F⁻¹ P`, or the transposed layers from the last to the first.

    Args:
        y: Real vectors, shape (count, N).
        a: The factors A as they are stored (`Form.shape`): real and imaginary parts in turns.
        d: The factors D, likewise.
        block: The size b of their blocks.
        permute: P on the last dimension, inverted for transposed layers.
        transposed: Whether to run the transposed layers.

    Returns:
        The results' real parts, shape (count, N).
    """
    length = y.shape[-1]
    there = fourier_matrix(length, a)
    back = there.mT
    y = torch.cat([y, torch.zeros_like(y)], dim=-1)
    layers = list(zip(_parts(a, block), _parts(d, block), strict=True))
    for a_l, d_l in reversed(layers) if transposed else layers:
        if transposed:
            y = permute(y.unflatten(-1, (2, length))).flatten(-2)
            y = _times(_times(y @ back, d_l, transposed=True) @ there, a_l, transposed=True)
        else:
            y = _times(_times(y, a_l) @ there, d_l) @ back
            y = permute(y.unflatten(-1, (2, length))).flatten(-2)
    return y[..., :length]


def _parts(stored: Tensor, block: int) -> list[Tensor]:
    """A layer's factors each: real and imaginary part, shape (2, N) or (2, N ÷ b, b, b)."""
    parts = stored.unflatten(-1, (-1, 2)).movedim(-1, 1)
    return list(parts.squeeze(-1) if block == 1 else parts.unflatten(2, (-1, block)))


def _times(y: Tensor, factor: Tensor, *, transposed: bool = False) -> Tensor:
    """The complex product with a diagonal, or with blocks."""
    real, imaginary = y.chunk(2, dim=-1)
    if factor.dim() == 2:
        by_real, by_imaginary = ((real * part, imaginary * part) for part in factor)
    else:
        blocks = factor.mT if transposed else factor
        by_real, by_imaginary = (
            (_by_blocks(real, part), _by_blocks(imaginary, part)) for part in blocks
        )
    return torch.cat(
        [by_real[0] - by_imaginary[1], by_real[1] + by_imaginary[0]],
        dim=-1,
    )


def _by_blocks(y: Tensor, blocks: Tensor) -> Tensor:
    parts = y.unflatten(-1, (-1, blocks.shape[-1]))
    return torch.einsum("...gi,gij->...gj", parts, blocks).flatten(-2)
