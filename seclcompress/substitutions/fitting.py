"""A start from the original's weights instead of random ones.

`split_kernel` splits a convolution into depthwise filters and a pointwise matrix, in closed form.
`fit_factors` brings factors near a target, such as that matrix, by gradient descent.
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
    """How near a replacement comes to the original's weights.

    Attributes:
        left: The relative error, ‖found − target‖ ÷ ‖target‖ (Frobenius).
        of: The target in words, such as "the pointwise weights".
    """

    left: float
    of: str

    @property
    def energy(self) -> float:
        """The share of the target's energy (sum of squares) that the fit holds; 1 is all of it."""
        return 1 - self.left**2


def split_kernel(conv: Convolution) -> tuple[Tensor, Tensor]:
    """Finds the depthwise filters and the pointwise matrix that are nearest to a convolution.

    The kernels from one input channel to all outputs form a matrix of shape (out_channels, positions).
    Its first singular vectors, times the first singular value σ, are the nearest product of one column
    and one filter (Eckart & Young, 1936).

    Args:
        conv: A convolution with any number of groups.

    Returns:
        Filters of shape (in_channels, 1, *kernel_size), each of norm √σ, and a matrix of shape
        (out_channels, in_channels) that is zero between groups.
    """
    weight = conv.weight.detach().double()
    out_channels, per_group = weight.shape[:2]
    groups = conv.groups
    grouped = weight.reshape(groups, out_channels // groups, per_group, -1)
    kernels = grouped.transpose(1, 2)  # (groups, in a group, out a group, positions)
    left, values, right = torch.linalg.svd(kernels, full_matrices=False)
    first = values[..., 0, None]
    # Filter and column get a factor of √σ each. The sign that they share is arbitrary; it is chosen
    # such that the filter's sum is not negative.
    sign = torch.where(right[..., 0, :].sum(-1, keepdim=True) < 0, -1.0, 1.0)
    columns = left[..., 0] * first.sqrt() * sign  # (groups, in a group, out a group)
    filters = right[..., 0, :] * first.sqrt() * sign
    matrix = ungrouped(columns.mT.reshape(out_channels, per_group), groups)
    space = filters.reshape(conv.in_channels, 1, *conv.kernel_size)
    return space.to(conv.weight.dtype), matrix.to(conv.weight.dtype)


def ungrouped(weight: Tensor, groups: int) -> Tensor:
    """Puts zeros between the groups of a weight.

    Args:
        weight: Shape (out_channels, in_channels ÷ groups, …).
        groups: The number of groups.

    Returns:
        Shape (out_channels, in_channels, …).
    """
    if groups == 1:
        return weight
    out_channels, per_group = weight.shape[:2]
    whole = weight.new_zeros(out_channels, per_group * groups, *weight.shape[2:])
    for group, rows in enumerate(torch.arange(out_channels).chunk(groups)):
        whole[rows, group * per_group : (group + 1) * per_group] = weight[rows]
    return whole


def fit_factors(
    factors: Sequence[nn.Parameter],
    product: Callable[[], Tensor],
    target: Tensor,
    *,
    steps: int = _STEPS,
) -> float:
    """Changes factors so that their product comes near a tensor, in the sum of squares.

    Args:
        factors: Changed in place.
        product: Multiplies the factors out, differentiable.
        target: A tensor of the product's shape.
        steps: Steps of Adam, whose learning rate falls on a cosine.

    Returns:
        The relative error, ‖product − target‖ ÷ ‖target‖ (Frobenius). For a target of zeros nothing
        changes and it is 1: factors of a product that is zero could not be trained.
    """
    scale = float(target.norm())
    if scale == 0:
        return 1.0
    trained = [factor.requires_grad for factor in factors]
    optimizer = torch.optim.Adam(factors, lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad():
        for factor in factors:
            factor.requires_grad_(True)
        for _ in range(steps):
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
