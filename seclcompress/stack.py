"""A stack of ACDC layers as a linear map: it is run on vectors or multiplied out to a matrix.

    y = fold( expand(x) · Π_l A_l C D_l C⁻¹ P )              (SECL paper, equation 2)

The diagonals `A_l` and `D_l` are the only parameters. `C` is the orthonormal DCT-II and `P` the riffle.
`expand` repeats the input channels up to the length N, and `fold` adds up the outputs whose indices
agree modulo the number of output channels. Both are linear, so the whole stack is one matrix of shape
(out_channels, in_channels). With the extra riffle of the research log a layer is `A C P D C⁻¹ P`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seclcompress import kernel
from seclcompress.kernel import by_fft
from seclcompress.transforms import (
    dct,
    dct_matrix,
    enter_order,
    expand,
    fold,
    idct,
    leave_order,
    riffle,
    unriffle,
)

#: Three figures measured by benchmarks/training_route.py: the length from which torch's FFT is faster
#: than a product with the DCT matrix; and the time of one Mult-Add of the paper's formula, in Mult-Adds
#: of a matrix product, by FFT and in the fused kernel. They decide how training multiplies out a stack.
#: They change neither what `fast` runs nor any reported figure.
FFT_FROM_LENGTH = 256
FFT_MULT_ADD_COST = 5
KERNEL_MULT_ADD_COST = 1


def stack_parameters(length: int, depth: int) -> int:
    """The diagonals A and D of `depth` ACDC layers: `2 N L` (SECL paper, equation 2)."""
    return 2 * length * depth


def stack_mult_adds(length: int, depth: int) -> int:
    """Mult-Adds of a stack of ACDC layers at one position, run by fast transforms.

    Where N is not a power of two, the figure of a layer is rounded up, so that it is never too low.

    Args:
        length: The length N of the transforms.
        depth: The number L of ACDC layers.

    Returns:
        Mult-Adds per position.
    """
    return depth * math.ceil(layer_mult_adds(length))


def layer_mult_adds(length: int) -> float:
    """The paper's formula for one layer, not rounded: `4N + 5N log₂ N` (section 4.1)."""
    return 4 * length + 5 * length * math.log2(length)  # log2 is exact for powers of two


def apply_stack(
    x: Tensor, a: Tensor, d: Tensor, out_channels: int, *, extra_riffle: bool = False
) -> Tensor:
    """Runs the stack on vectors by fast transforms, in `O(L N log N)` per vector.

    Args:
        x: Shape (..., in_channels), float32 or float64.
        a: Shape (L, N): the diagonals A.
        d: Shape (L, N): the diagonals D.
        out_channels: At most N.
        extra_riffle: Adds a riffle between C and D to every layer.

    Returns:
        Shape (..., out_channels).
    """
    y = expand(x, a.shape[-1])
    if extra_riffle:
        for a_l, d_l in zip(a, d, strict=True):
            y = riffle(idct(riffle(dct(y * a_l)) * d_l))
    else:
        y = leave_order(by_fft.run_layers(enter_order(y), a, d))
    return fold(y, out_channels)


def stack_matrix(
    a: Tensor, d: Tensor, in_channels: int, out_channels: int, *, extra_riffle: bool = False
) -> Tensor:
    """Multiplies the stack out to the matrix W with `apply_stack(x) == x @ W.T`.

    The stack maps the unit vectors of its inputs to the columns of W. The transposed stack maps the
    unit vectors of its outputs to the rows of W. The one with fewer vectors is run, in the fused kernel
    if that supports it.

    Args:
        a: Shape (L, N), float32 or float64.
        d: Shape (L, N).
        in_channels: At most N.
        out_channels: At most N.
        extra_riffle: As in `apply_stack`.

    Returns:
        Shape (out_channels, in_channels).
    """
    if not extra_riffle and kernel.supports(a.shape[-1], a.dtype, a.device):
        return kernel.acdc_matrix(a, d, in_channels, out_channels)
    narrow = min(in_channels, out_channels)
    identity = torch.eye(narrow, dtype=a.dtype, device=a.device)
    if in_channels <= out_channels:
        return run_stack(identity, a, d, out_channels, extra_riffle=extra_riffle).mT.contiguous()
    return _run_transposed(identity, a, d, in_channels, extra_riffle=extra_riffle)


def product_in_pairs(matrices: Tensor) -> Tensor:
    """Multiplies matrices in their order, neighbours in pairs: in ⌈log₂ L⌉ batched products.

    Args:
        matrices: Shape (L, N, N), L of at least 1.

    Returns:
        Shape (N, N).
    """
    while len(matrices) > 1:
        even = len(matrices) // 2 * 2
        products = matrices[:even:2] @ matrices[1:even:2]
        matrices = torch.cat([products, matrices[even:]])
    return matrices[0]


def vector_cost(length: int, depth: int, *, fused: bool) -> int:
    """The stack's time per vector, as the number of Mult-Adds of a matrix product that take as long.

    Args:
        length: The length N of the transforms.
        depth: The number L of ACDC layers.
        fused: Whether the fused kernel runs the stack.
    """
    if fused:
        return KERNEL_MULT_ADD_COST * stack_mult_adds(length, depth)
    if length < FFT_FROM_LENGTH:
        return 2 * depth * length * length
    return FFT_MULT_ADD_COST * stack_mult_adds(length, depth)


def run_stack(
    x: Tensor, a: Tensor, d: Tensor, out_channels: int, *, extra_riffle: bool = False
) -> Tensor:
    """Does the same as `apply_stack`, by products with the DCT matrix where those are faster."""
    length = a.shape[-1]
    if length >= FFT_FROM_LENGTH:
        return apply_stack(x, a, d, out_channels, extra_riffle=extra_riffle)
    c = dct_matrix(length, a.dtype, a.device)
    y = expand(x, length)
    for a_l, d_l in zip(a, d, strict=True):
        y = (y * a_l) @ c
        y = riffle(((riffle(y) if extra_riffle else y) * d_l) @ c.mT)
    return fold(y, out_channels)


def _run_transposed(
    y: Tensor, a: Tensor, d: Tensor, in_channels: int, *, extra_riffle: bool
) -> Tensor:
    """Runs the transposed stack on vectors, shape (..., out_channels) to (..., in_channels).

    The transpose of a product is the product of the transposes in reverse order. A and D are their own
    transposes. The DCT and the riffle are orthogonal, so their transposes are their inverses. The
    transpose of `fold` is `expand` and vice versa: one copies an entry to all places from which the
    other adds entries up.
    """
    length = a.shape[-1]
    fast = length >= FFT_FROM_LENGTH
    x = expand(y, length)
    if fast and not extra_riffle:
        x = leave_order(by_fft.run_transposed_layers(enter_order(x), a, d))
        return fold(x, in_channels)
    c = None if fast else dct_matrix(length, a.dtype, a.device)
    for a_l, d_l in zip(a.flip(0), d.flip(0), strict=True):
        x = unriffle(x)
        x = (dct(x) if c is None else x @ c) * d_l
        x = unriffle(x) if extra_riffle else x
        x = (idct(x) if c is None else x @ c.mT) * a_l
    return fold(x, in_channels)
