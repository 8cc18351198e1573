"""Doing what a plan says: a network with its convolutions replaced, and the way back to plain ones."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from seclcompress import substitutions
from seclcompress.errors import PlanError
from seclcompress.plan import LayerPlan, Plan
from seclcompress.substitutions import (
    Fit,
    StructuredLayer,
    plain,
    structure_kept,
    structured_layers,
)
from seclcompress.torch_private import children_by_name


def rewrite_network(
    network: nn.Module,
    plan: Plan,
    *,
    seed: int = 0,
    on_fit: Callable[[str, Fit | None], None] | None = None,
) -> nn.Module:
    """Replaces the planned layers in place; everything else keeps its weights.

    Args:
        network: The network the plan was made for. It is changed.
        plan: What becomes of each convolution.
        seed: Of the new layers' initial values. torch's global random numbers are left as they are.
        on_fit: Where given, each new layer is fitted to the weights of the one that it replaces, and
            this is told the layer and what `StructuredLayer.fit` returns.

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
    network: nn.Module, layer: LayerPlan, on_fit: Callable[[str, Fit | None], None] | None
) -> None:
    if layer.substitution is None:
        raise PlanError(f"The plan rewrites {layer.name}, but names no substitution to do it with.")
    substitution = substitutions.get(layer.substitution)
    try:
        old = network.get_submodule(layer.name)
    except AttributeError as error:
        raise PlanError(f"The network has no layer {layer.name}: {error}.") from error
    built = substitution.build(old, substitution.config(layer.config))
    built.planned_execution = layer.execution
    if on_fit is not None:
        on_fit(layer.name, built.fit(old))
    if layer.name == "":
        raise PlanError("The network itself is one convolution; put it into an nn.Sequential.")
    replace_module(network, old, built)


def to_plain(network: nn.Module) -> nn.Module:
    """A copy in torch's own layers, the structure kept where torch can express it.

    A product of two matrices stays two layers, a block of several layers its layers. It computes what
    the network computes in eval mode, and needs nothing of this package.

    Args:
        network: A rewritten network; it stays as it is.
    """
    return _converted(network, structure_kept)


def to_dense(network: nn.Module) -> nn.Module:
    """A copy in torch's own layers, factors multiplied out.

    It computes the same, needs nothing of this package, and can go wherever torch networks go. A layer
    that cannot be multiplied out, because it is not affine, becomes its plain layers (`to_plain`).

    Args:
        network: A rewritten network; it stays as it is.
    """
    return _converted(network, plain)


def _converted(network: nn.Module, convert: Callable[[StructuredLayer], nn.Module]) -> nn.Module:
    if isinstance(network, StructuredLayer):
        return convert(network)
    copied = copy.deepcopy(network)
    for layer in structured_layers(copied):
        replace_module(copied, layer, convert(layer))
    return copied


def replace_module(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts `new` wherever `old` stands; a shared module stands in several places."""
    for parent in list(network.modules()):
        for name, child in list(children_by_name(parent).items()):
            if child is old:
                setattr(parent, name, new)
