"""The first values of A and D in a stack of `shapes.spectral`."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from seclcompress.substitutions.shapes.initial import random_orthogonal, white_gain
from seclcompress.substitutions.shapes.spectral import Form
from seclcompress.substitutions.site import Convolution

Init: TypeAlias = Literal["signs", "paper"]


def initial_factors(conv: Convolution, form: Form, init: Init = "signs") -> tuple[Tensor, Tensor]:
    """Draws A and D, such that white input keeps the variance that the convolution gives it.

    Args:
        conv: The convolution to replace. On the meta device nothing is drawn.
        form: What the layers look like.
        init: `signs`: random signs, random phases where they are complex, and random orthogonal or
            unitary blocks; the square stack is then orthogonal or unitary. `paper`: A, D ~ N(1, 0.01²),
            or blocks of an identity with that noise.

    Returns:
        A and D, each of shape `form.shape(N)`, on the convolution's device and in its dtype.
    """
    length = form.length(conv)
    shape = (2, *form.shape(length))
    if conv.weight.is_meta:  # needs no values, and a stranger's file may ask for a huge stack
        a, d = torch.empty(shape, dtype=conv.weight.dtype, device="meta")
        return a.clone(), d.clone()
    values = _drawn((2, form.depth, length), form, init)
    energy = _energy(conv, length, form, init)
    # The gain is spread evenly over the 2L factors, so that all start with similar values.
    values *= (white_gain(conv) / math.sqrt(energy)) ** (1 / (2 * form.depth))
    values = values.to(conv.weight.device, conv.weight.dtype).reshape(shape)
    return values[0].clone(), values[1].clone()


def _drawn(size: tuple[int, int, int], form: Form, init: Init) -> Tensor:
    """Draws 2 · L · N entries, or blocks for as many rows, in float64."""
    two, depth, length = size
    block = form.block
    blocks = (two, depth, length // block, block, block)
    if init == "paper":
        noise = 0.01 * torch.randn(size if block == 1 else blocks, dtype=torch.float64)
        return noise + (1.0 if block == 1 else torch.eye(block, dtype=torch.float64))
    if block > 1:
        return random_orthogonal(blocks, complex_numbers=form.fourier)
    if form.fourier:
        angles = 2 * math.pi * torch.rand(size, dtype=torch.float64)
        return torch.stack([angles.cos(), angles.sin()], dim=-1)
    return torch.randint(0, 2, size, dtype=torch.float64) * 2 - 1


def _energy(conv: Convolution, length: int, form: Form, init: Init) -> float:
    """The variance of an unscaled, untrained stack's outputs for white input, `‖W‖² ÷ out_channels`."""
    if init == "paper" and not form.extra_riffle:
        # A and D are almost 1, so the stack is almost its permutations alone: each entry of W counts how
        # often `expand`, the permutations and `fold` take that input to that output.
        between, place = form.between(length), torch.arange(length)
        for _ in range(form.depth):
            place = between(place, inverse=form.inverse_riffle)
        pairs = (place % conv.in_channels) * conv.out_channels + (
            torch.arange(length) % conv.out_channels
        )
        counts = torch.unique(pairs, return_counts=True)[1]
        return float(counts.square().sum()) / conv.out_channels
    # The entries of a random-looking orthogonal N×N matrix have variance 1/N, the real parts of a
    # unitary one's half of that. `expand` and `fold` make every entry of W the sum of (N ÷ out)(N ÷ in)
    # of them.
    return length / conv.out_channels / (2 if form.fourier else 1)
