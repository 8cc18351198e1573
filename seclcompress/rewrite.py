"""Carrying out a plan: a network's layers are replaced, or converted back to torch's own layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from seclcompress import substitutions
from seclcompress.errors import PlanError
from seclcompress.plan import LayerPlan, Plan
from seclcompress.substitutions import (
    Fit,
    StructuredLayer,
    multiplied_out,
    plain_layers,
    structured_layers,
)
from seclcompress.substitutions.site import folded
from seclcompress.torch_private import children_by_name
from seclcompress.trace import whole_copy


def rewrite_network(
    network: nn.Module,
    plan: Plan,
    *,
    seed: int = 0,
    on_fit: Callable[[str, Fit | None], None] | None = None,
) -> nn.Module:
    """Replaces the layers that a plan rewrites, in place. All other layers keep their weights.

    Args:
        network: The network that the plan was made for. It is changed.
        plan: The plan.
        seed: Seed of the new layers' initial values. torch's global random state is left as it is.
        on_fit: If given, each new layer is fitted to the weights of the layer that it replaces, and
            this is called with the layer's name and the result of `StructuredLayer.fit`.

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
    if layer.name == "":
        raise PlanError("The network itself is one convolution; put it into an nn.Sequential.")
    substitution = substitutions.get(layer.substitution)
    try:
        old = network.get_submodule(layer.name)
    except AttributeError as error:
        raise PlanError(f"The network has no layer {layer.name}: {error}.") from error
    built = substitution.build(old, substitution.config(layer.config))
    built.planned_execution = layer.execution
    if on_fit is not None:
        plain = old if isinstance(old, nn.Linear) else folded(old)
        on_fit(layer.name, built.fit(plain))
    replace_module(network, old, built)


def to_plain(network: nn.Module) -> nn.Module:
    """Copies a network to torch's own layers, with the structure kept where torch can express it.

    A product of two matrices becomes two layers, a block becomes its layers. The copy computes what
    the network computes in eval mode, and its layers do not depend on this package.

    Args:
        network: A rewritten network; it is not changed.
    """
    return _converted(network, plain_layers)


def to_dense(network: nn.Module) -> nn.Module:
    """Copies a network to torch's own layers, with factors multiplied out.

    The copy computes the same, its layers do not depend on this package, and it can be used like any
    torch network. A layer that is not affine cannot be multiplied out; it becomes its plain layers, as
    in `to_plain`.

    Args:
        network: A rewritten network; it is not changed.
    """
    return _converted(network, multiplied_out)


def _converted(network: nn.Module, convert: Callable[[StructuredLayer], nn.Module]) -> nn.Module:
    if isinstance(network, StructuredLayer):
        return convert(network)
    copied = whole_copy(network)
    for layer in structured_layers(copied):
        replace_module(copied, layer, convert(layer))
    return copied


def replace_module(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts `new` in every place of `old`. A shared module has several places."""
    for parent in list(network.modules()):
        for name, child in list(children_by_name(parent).items()):
            if child is old:
                setattr(parent, name, new)
