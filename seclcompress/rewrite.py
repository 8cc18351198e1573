"""Doing what a plan says: a network with its convolutions replaced, and the way back to plain ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from seclcompress import substitutions
from seclcompress.errors import PlanError
from seclcompress.plan import LayerPlan, Plan
from seclcompress.substitutions import StructuredConv
from seclcompress.substitutions.contract import Convolution


def rewrite_network(
    network: nn.Module,
    plan: Plan,
    *,
    seed: int = 0,
    on_fit: Callable[[str, float | None], None] | None = None,
) -> nn.Module:
    """Replaces the planned convolutions in place; everything else keeps its weights.

    Args:
        network: The network the plan was made for. It is changed.
        plan: What becomes of each convolution.
        seed: Of the new layers' initial values. torch's global random numbers are left as they are.
        on_fit: Where given, each new layer is fitted to the weights of the one that it replaces, and
            this is told the layer and what `StructuredConv.fit` returns.

    Returns:
        The same network.

    Raises:
        PlanError: If the network has no such layer.
        SubstitutionError: If a layer cannot be rewritten as planned.
    """
    devices = {p.device.index for p in network.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices)):
        torch.manual_seed(seed)
        for layer in plan.rewritten:
            _rewrite_layer(network, layer, on_fit)
    return network


def _rewrite_layer(
    network: nn.Module, layer: LayerPlan, on_fit: Callable[[str, float | None], None] | None
) -> None:
    assert layer.substitution is not None
    substitution = substitutions.get(layer.substitution)
    try:
        conv = network.get_submodule(layer.name)
    except AttributeError as error:
        raise PlanError(f"The network has no layer {layer.name}: {error}.") from error
    built = substitution.build(conv, substitution.config(layer.config))
    built.planned_execution = layer.execution
    if on_fit is not None:
        on_fit(layer.name, built.fit(cast(Convolution, conv)))
    if layer.name == "":
        raise PlanError("The network itself is one convolution; put it into an nn.Sequential.")
    replace_module(network, conv, built)


def to_dense(network: nn.Module) -> nn.Module:
    """A copy in which every structured layer is multiplied out to plain torch convolutions.

    It computes the same, needs nothing of this package, and can go wherever torch networks go; its
    parameters are those of a plain depthwise-separable network.

    Args:
        network: A rewritten network; it stays as it is.

    Returns:
        A copy without structured layers.
    """
    if isinstance(network, StructuredConv):
        return network.to_dense()
    dense = copy.deepcopy(network)
    for module in list(dense.modules()):
        if isinstance(module, StructuredConv):
            replace_module(dense, module, module.to_dense())
    return dense


def replace_module(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts `new` wherever `old` stands; a shared module stands in several places."""
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):  # named_children passes over second names
            if child is old:
                setattr(parent, name, new)
