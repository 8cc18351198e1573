"""What a replacement loses of a layer, as a share of the energy (sum of squares) of its weights.

Two answers that need no images (`measured` has those that do). Without trained weights it is a count of
dimensions: a set of p numbers reaches, of a random weight of P, the share p ÷ P of its energy if it is a
linear space, and a little more if it is not. With trained weights the replacement is fitted to them, and
what it misses is measured.

Neither knows what a network learns afterwards: docs/frontier.md has families that hold little energy and
train well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from seclcompress.substitutions import Site, StructuredLayer, Substitution, SubstitutionConfig
from seclcompress.substitutions.fitting import ungrouped

#: What a layer's loss adds to the sum that the program keeps least.
Penalty: TypeAlias = Callable[[float], float]
#: A layer that keeps less than this share counts as keeping it: the logarithm of nothing is infinite.
LEAST_KEPT = 1e-3


def multiplied(loss: float) -> float:
    """−log(1 − loss), for losses that are shares: what layers behind each other keep is multiplied.

    So a layer that keeps a hundredth weighs more than one that keeps a tenth, though both lose nearly
    all. Sums of losses say otherwise, and their plans are worse after training (docs/budgets.md).
    """
    return -math.log(max(1 - loss, LEAST_KEPT))


def added(loss: float) -> float:
    """The loss, for losses that add up."""
    return loss


def mean_loss(losses: Iterable[float], penalty: Penalty) -> float:
    """The loss of each layer that would give the same sum of penalties; 0 without layers.

    Where losses are multiplied it is at most 1 − `LEAST_KEPT`.
    """
    penalties = [penalty(loss) for loss in losses]
    mean = sum(penalties) / max(len(penalties), 1)
    return mean if penalty is added else -math.expm1(-mean)


def by_dimensions(site: Site, family: Substitution, config: SubstitutionConfig) -> float:
    """1 − p ÷ P: the energy of a random weight of P numbers that p numbers leave.

    Args:
        site: The layer's site; only shapes are read. Biases count on both sides.
        family: The family.
        config: Its options.
    """
    whole = sum(parameter.numel() for parameter in site.layer.parameters())
    return max(0.0, 1 - family.cost(site, config).parameters / whole)


def by_weights(site: Site, family: Substitution, config: SubstitutionConfig) -> float:
    """‖W − Ŵ‖² ÷ ‖W‖², where Ŵ is the weight of the replacement fitted to W (Frobenius).

    A family that is not affine, or cannot be fitted, takes nothing over: 1. So does one that comes no
    nearer than zero.

    Args:
        site: The site of a layer with its trained weights. Nothing is changed.
        family: The family.
        config: Its options.
    """
    whole = whole_weight(site).double()
    missing = distance(site, family, config)
    if missing is None:
        return 1.0
    energy = float(whole.square().sum())
    if energy == 0:
        return 0.0
    return min(1.0, float(missing.square().sum()) / energy)


def distance(
    site: Site,
    family: Substitution,
    config: SubstitutionConfig,
    improve: Callable[[StructuredLayer], object] | None = None,
) -> Tensor | None:
    """W − Ŵ, where Ŵ is the weight of the replacement fitted to W, as `convert --start original` does.

    Args:
        site: The site of a layer with its trained weights. Nothing is changed.
        family: The family.
        config: Its options.
        improve: Changes the fitted replacement before it is compared; None to compare it as it is.

    Returns:
        Shape (out, in, *kernel) in float64, with zeros between groups; None for a family that is not
        affine, or cannot be fitted.
    """
    layer = site.layer if isinstance(site.layer, nn.Linear) else site.convolution
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = family.build(site, config)
        fitted = built.fit(layer)
        if improve is not None and fitted is not None:
            improve(built)
    dense = None if fitted is None else built.to_dense()
    return None if dense is None else _whole(layer).double() - _product(dense).double()


def spelled(family: Substitution, config: SubstitutionConfig) -> str:
    """A replacement as text, equal for equal ones."""
    return f"{family.name} {json.dumps(config.model_dump(mode='json'), sort_keys=True)}"


def whole_weight(site: Site) -> Tensor:
    """A layer's weight W of shape (out, in, *kernel), with zeros between groups."""
    return _whole(site.layer if isinstance(site.layer, nn.Linear) else site.convolution)


def _product(dense: nn.Module) -> Tensor:
    """The weight of the one convolution that computes what a layer that is multiplied out computes.

    Args:
        dense: A convolution or Linear, or a depthwise convolution with a 1×1 convolution behind it.
    """
    if not isinstance(dense, nn.Sequential):
        return _whole(dense)
    filters, mixing = dense
    assert isinstance(filters.weight, Tensor)
    matrix, space = _whole(mixing).flatten(1), filters.weight.detach()[:, 0]
    return torch.einsum("oi,i...->oi...", matrix, space)


def _whole(layer: nn.Module) -> Tensor:
    """A weight of shape (out, in, *kernel), with zeros between groups."""
    assert isinstance(layer.weight, Tensor)
    return ungrouped(layer.weight.detach(), getattr(layer, "groups", 1))
