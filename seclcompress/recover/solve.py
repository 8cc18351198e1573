"""Solves one layer from its moments: L-BFGS for a replacement's parameters, ridge for a kept layer."""

from __future__ import annotations

import copy
from collections.abc import Callable

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
    make = _split_objective if new.split_weight() is not None else _objective
    objective = make(new, old, moments)
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
        loss = objective()
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


def _objective(
    new: StructuredLayer, old: Convolution | nn.Linear, moments: Moments
) -> Callable[[], Tensor]:
    """The squared error of a replacement ÷ energy, less a constant, as a function of its parameters now.

    With E its weights less the teacher's: `⟨E C, E⟩ − 2 ⟨E, G⟩`, in the notation of `moments`.
    """
    dtype = next(new.parameters()).dtype
    inputs = (moments.inputs / moments.energy).to(dtype)
    lacking = (moments.lacking / moments.energy).to(dtype)

    def value() -> Tensor:
        far = distance(new, old)
        assert far is not None
        return ((far @ inputs) * far).sum() - 2 * (far * lacking).sum()

    return value


def _split_objective(
    new: StructuredLayer, old: Convolution | nn.Linear, moments: Moments
) -> Callable[[], Tensor]:
    """The same, another constant less, for a layer that filters each channel and then mixes them.

    Its weights are P D, where D takes a patch to one number a channel by the filters. So the error is
    `⟨P (D C Dᵀ), P⟩ − 2 ⟨P, (W C + G) Dᵀ⟩` for the teacher's weights W. Both brackets cost about as many
    products as C has elements; E C costs that × the output channels. The bias stands behind P, and the 1
    at the end of each patch is a channel of its own.
    """
    theirs = weight_with_bias(old.weight, old.bias, groups_of(old)).detach().double()
    inputs = moments.inputs / moments.energy
    aims = theirs @ inputs + moments.lacking / moments.energy
    split = new.split_weight()
    assert split is not None
    channels, size = split[2].shape
    patch = channels * size
    sums, count = inputs[:patch, patch].reshape(channels, size), inputs[patch, patch]
    shifts, aims = aims[:, patch], aims[:, :patch].reshape(-1, channels, size)
    # Places of the kernel come first, so that sums over them run along whole matrices of channels.
    aims = aims.permute(2, 0, 1).contiguous()
    pairs = inputs[:patch, :patch].reshape(channels, size, channels, size)
    pairs = pairs.permute(1, 3, 0, 2).to(split[0].dtype).contiguous()

    def mix(filters: Tensor) -> Tensor:
        """D C Dᵀ, (channels, channels), of filters (channels, size)."""
        # It is Σ_k f_k[i] T_k[i, j] with T_k[i, j] = Σ_l C[k, l, i, j] f_l[j]. As C is symmetric, and so
        # is what this is multiplied by, both f have the same gradient: together twice that with T held.
        columns = filters.detach().T.to(pairs.dtype)
        held = pairs[:, 0] * columns[0]
        for place in range(1, size):
            held.addcmul_(pairs[:, place], columns[place])
        once = (held.double() * filters.T[:, :, None]).sum(0)
        return 2 * once - once.detach()

    def value() -> Tensor:
        parts = new.split_weight()
        assert parts is not None
        matrix, bias, filters = parts
        matrix, filters = matrix.double(), filters.double()
        loss = ((matrix @ mix(filters)) * matrix).sum()
        loss = loss - 2 * ((aims * filters.T[:, None]).sum(0) * matrix).sum()
        if bias is None:
            return loss
        bias = bias.double()
        means = matrix @ (sums * filters).sum(1)
        return (
            loss
            + 2 * (means * bias).sum()
            + count * bias.square().sum()
            - 2 * (shifts * bias).sum()
        )

    return value
