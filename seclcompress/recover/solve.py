"""Solves one layer from its moments: L-BFGS for a replacement's parameters, ridge for a kept layer."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from seclcompress.narrowing import groups_of
from seclcompress.recover.moments import Moments, weight_with_bias
from seclcompress.substitutions import StructuredLayer
from seclcompress.substitutions.site import Convolution

_HISTORY = 20


def distance(new: nn.Module, old: Convolution | nn.Linear) -> Tensor | None:
    """How far a layer's weights are from the teacher's, differentiable.

    Args:
        new: A replacement, or the student's plain layer of the teacher's geometry.
        old: The teacher's layer.

    Returns:
        Shape (out_channels, patch's width + 1); None if the replacement is no one convolution.
    """
    theirs = weight_with_bias(old.weight, old.bias, groups_of(old)).detach()
    if isinstance(new, StructuredLayer):
        whole = new.whole_weight()
        if whole is None:
            return None
        weight, bias, groups = whole
    else:
        weight, bias, groups = new.weight, new.bias, groups_of(new)  # type: ignore[arg-type, assignment]
    return weight_with_bias(weight, bias, groups) - theirs


def solve(
    new: StructuredLayer, old: Convolution | nn.Linear, moments: Moments, iterations: int
) -> tuple[float, float]:
    """Brings a replacement's outputs as near the teacher's as L-BFGS does; it never gets worse.

    Args:
        new: The replacement, changed in place.
        old: The teacher's layer.
        moments: What its inputs say.
        iterations: Iterations at most.

    Returns:
        The relative error before and after.
    """
    parameters = [parameter for parameter in new.parameters() if parameter.is_floating_point()]
    first = distance(new, old)
    assert first is not None
    before = moments.error(first)
    if before == 0 or not moments.energy:
        return before, before
    began = copy.deepcopy(new.state_dict())
    inputs, lacking = (part.to(first.dtype) for part in _normalised(moments))
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=iterations,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
    )

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        far = distance(new, old)
        assert far is not None
        loss = ((far @ inputs) * far).sum() - 2 * (far * lacking).sum()
        loss.backward()
        return loss.detach()

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[arg-type]
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        last = distance(new, old)
    assert last is not None
    after = moments.error(last)
    if not after < before:  # also where it is not a number
        new.load_state_dict(began)
        return before, before
    return before, after


def correct(
    new: Convolution | nn.Linear, old: Convolution | nn.Linear, moments: Moments, ridge: float
) -> tuple[float, float]:
    """Corrects a kept layer for the student's inputs: the teacher's weights, and a ridge regression.

    Args:
        new: The student's layer, without groups, changed in place.
        old: The teacher's.
        moments: What the student's inputs say.
        ridge: The penalty on the change of the weights, × the mean square of the inputs.

    Returns:
        The relative error before and after.
    """
    first = distance(new, old)
    assert first is not None
    before = moments.error(first)
    if before == 0 or not moments.energy:
        return before, before
    width = len(moments.inputs) - 1
    penalty = moments.inputs.diagonal()[:width].mean() * ridge
    left = moments.inputs.clone()
    left.diagonal()[:width] += penalty
    left[width, width] += left[width, width] * 1e-6
    right = moments.lacking
    if new.bias is None:
        left, right = left[:width, :width], right[:, :width]
    change = torch.linalg.solve(left, right, left=False)
    found = weight_with_bias(old.weight, old.bias).double().detach()
    found[:, : change.shape[1]] += change
    with torch.no_grad():
        new.weight.copy_(found[:, :width].reshape(new.weight.shape))
        if new.bias is not None:
            new.bias.copy_(found[:, width])
        last = distance(new, old)
    assert last is not None
    return before, moments.error(last)


def _normalised(moments: Moments) -> tuple[Tensor, Tensor]:
    return moments.inputs / moments.energy, moments.lacking / moments.energy
