"""A start from the original's weights instead of a random one.

A convolution is split in two by the best rank-1 fit of each input channel's kernels, in closed form;
factors are then fitted to what remains, the matrix of the pointwise part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seclcompress.substitutions.site import Convolution

_STEPS, _LEARNING_RATE = 1000, 0.01


@dataclass(frozen=True)
class Fit:
    """How much of the original's weights a replacement could take over.

    Attributes:
        left: What it could not hold, ‖found − target‖ ÷ ‖target‖ (Frobenius).
        of: What the target was, in words: "the pointwise weights".
    """

    left: float
    of: str

    @property
    def energy(self) -> float:
        """The share of the target's energy (sum of squares) that is held, from 0 to 1."""
        return 1 - self.left**2


def split_kernel(conv: Convolution) -> tuple[Tensor, Tensor]:
    """The depthwise filters and the pointwise matrix that are nearest to a convolution.

    For each input channel the kernels to all outputs are a matrix (out_channels, positions); its first
    singular vectors are the nearest product of one filter and one column (Eckart & Young, 1936).

    Args:
        conv: With any groups.

    Returns:
        Filters of shape (in_channels, 1, *kernel_size), each of norm √(its weights' share), and a matrix
        of shape (out_channels, in_channels), zero between groups.
    """
    weight = conv.weight.detach().double()
    out_channels, per_group = weight.shape[:2]
    groups = conv.groups
    grouped = weight.reshape(groups, out_channels // groups, per_group, -1)
    kernels = grouped.transpose(1, 2)  # (groups, in a group, out a group, positions)
    left, values, right = torch.linalg.svd(kernels, full_matrices=False)
    first = values[..., 0, None]
    # Both sides get the same share of the size, and the filter's sum is positive: a fit has two signs.
    sign = torch.where(right[..., 0, :].sum(-1, keepdim=True) < 0, -1.0, 1.0)
    columns = left[..., 0] * first.sqrt() * sign  # (groups, in a group, out a group)
    filters = right[..., 0, :] * first.sqrt() * sign
    matrix = weight.new_zeros(out_channels, conv.in_channels)
    for group in range(groups):
        rows = slice(group * (out_channels // groups), (group + 1) * (out_channels // groups))
        matrix[rows, group * per_group : (group + 1) * per_group] = columns[group].mT
    space = filters.reshape(conv.in_channels, 1, *conv.kernel_size)
    return space.to(conv.weight.dtype), matrix.to(conv.weight.dtype)


def fit_factors(
    factors: Sequence[nn.Parameter], product: Callable[[], Tensor], target: Tensor
) -> float:
    """Moves factors so that their product comes near a matrix, in the sum of squares.

    Args:
        factors: Changed in place.
        product: Multiplies them out, differentiable.
        target: The matrix, of the product's shape.

    Returns:
        What is left: ‖product − target‖ ÷ ‖target‖ (Frobenius).
    """
    scale = float(target.norm())
    if scale == 0:
        return 0.0
    trained = [factor.requires_grad for factor in factors]
    optimizer = torch.optim.Adam(factors, lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    with torch.enable_grad():
        for factor in factors:
            factor.requires_grad_(True)
        for _ in range(_STEPS):
            distance = (product() - target).square().sum() / scale**2
            gradients = torch.autograd.grad(distance, list(factors))
            for factor, gradient in zip(factors, gradients, strict=True):
                factor.grad = gradient
            optimizer.step()
            schedule.step()
    for factor, wanted in zip(factors, trained, strict=True):
        factor.grad = None
        factor.requires_grad_(wanted)
    with torch.no_grad():
        return float((product() - target).norm()) / scale
