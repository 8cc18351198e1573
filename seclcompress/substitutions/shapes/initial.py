"""The size of a replacement's initial values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seclcompress.substitutions.site import Convolution


def white_gain(conv: Convolution) -> float:
    """The standard deviation of a convolution's outputs for white input, without the bias.

    That is `√(Σ w² ÷ out_channels)`. For an untrained layer it follows from the layer's own
    initialisation; for a trained layer it is the size of outputs that the following layers expect. A
    layer of zeros, and one on the meta device, get the value of torch's default initialisation,
    `√(1/3)`.
    """
    default = math.sqrt(1 / 3)
    if conv.weight.is_meta:
        return default
    energy = float(conv.weight.detach().double().square().sum()) / conv.out_channels
    return math.sqrt(energy) if energy > 0 else default


def white_factors(
    conv: Convolution,
    shapes: Sequence[Sequence[int]],
    fan_ins: Sequence[int],
    product: Callable[[list[Tensor]], Tensor],
) -> list[Tensor]:
    """Draws factors, such that white input keeps the variance that the convolution gives it.

    Every factor alone about keeps it. With few columns the product's norm is a matter of chance, so it
    is set exactly, by the same gain for every factor.

    Args:
        conv: The convolution to replace. On the meta device nothing is drawn.
        shapes: The shapes of the factors.
        fan_ins: How many inputs of each factor are summed up in one of its outputs.
        product: Multiplies the factors out, to the convolution's weight or to a matrix of its channels.

    Returns:
        The factors, on the convolution's device and in its dtype.
    """
    if conv.weight.is_meta:  # needs no values, and a stranger's file may ask for huge ones
        return [conv.weight.new_empty(*shape) for shape in shapes]
    drawn = [
        torch.randn(*shape, dtype=torch.float64) / math.sqrt(fan_in)
        for shape, fan_in in zip(shapes, fan_ins, strict=True)
    ]
    return whitened(conv, drawn, product)


def whitened(
    conv: Convolution, drawn: Sequence[Tensor], product: Callable[[list[Tensor]], Tensor]
) -> list[Tensor]:
    """Scales factors, all by one number, to the gain that the convolution has for white input.

    Args:
        conv: The convolution to replace; not on the meta device.
        drawn: The factors.
        product: See `white_factors`.

    Returns:
        The factors, on the convolution's device and in its dtype.
    """
    found = float(product(list(drawn)).norm()) / math.sqrt(conv.out_channels)
    gain = (white_gain(conv) / max(found, 1e-30)) ** (1 / len(drawn))
    return [(gain * factor).to(conv.weight) for factor in drawn]


def balanced(factors: Sequence[Tensor]) -> list[Tensor]:
    """Scales factors to equal norms; a product in which each stands once stays the same.

    Factors of unequal norms would be trained at unequal speeds.
    """
    norms = [float(factor.norm()) for factor in factors]
    if not all(norms):
        return list(factors)
    mean = math.exp(sum(map(math.log, norms)) / len(norms))
    return [factor * (mean / norm) for factor, norm in zip(factors, norms, strict=True)]


def zero_below(values: Tensor) -> float:
    """The size below which singular values of float64 matrices are zeros with rounding errors."""
    return float(values.max()) * 1e-12


def random_orthogonal(shape: Sequence[int], *, complex_numbers: bool = False) -> Tensor:
    """Draws evenly among all orthogonal, or unitary, matrices of a shape (Mezzadri, 2007).

    Args:
        shape: Of one or many square matrices.
        complex_numbers: Unitary matrices, with a last dimension of real and imaginary parts.

    Returns:
        Float64 numbers.
    """
    dtype = torch.complex128 if complex_numbers else torch.float64
    q, r = torch.linalg.qr(torch.randn(*shape, dtype=dtype))
    q = q * torch.sgn(r.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2)
    # QR leaves columns side by side in memory, which no file of weights may have: hence contiguous.
    return (torch.view_as_real(q) if complex_numbers else q).contiguous()
