"""A network ready to be exported: torch's own layers, and which of their weights come from factors."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from seclcompress.inference import folded, for_inference
from seclcompress.rewrite import replace_module, to_dense
from seclcompress.substitutions import (
    StructuredLayer,
    multiplied_out,
    plain_layers,
    structured_layers,
)
from seclcompress.trace import whole_copy
from seclcompress.wording import listed


@dataclass(frozen=True)
class Prepared:
    """A network of torch's own layers, and of fast ones with an operator, ready to be written.

    It is in eval mode, with batch norm folded away.

    Attributes:
        network: The network. It computes what the original computes.
        makings: By the name of a parameter of `network`, the module that makes it from factors; empty
            where all weights are written as they are.
        notes: What a person should know about single layers.
    """

    network: nn.Module
    makings: dict[str, nn.Module] = field(default_factory=dict)
    notes: Sequence[str] = ()


def prepare(
    network: nn.Module,
    input_size: tuple[int, ...],
    *,
    factors: bool = False,
    fold: bool = True,
    execution: str = "dense",
) -> Prepared:
    """Prepares a copy of a network for export.

    Args:
        network: Any network; it is not changed.
        input_size: (channels, *spatial).
        factors: Whether weights that are made from fewer numbers keep them. A layer whose structure
            torch's layers can express becomes those layers; one whose weights cannot be made from
            factors in a graph is multiplied out, and `notes` names it.
        fold: Whether to fold batch norm; without that, all weights are dense.
        execution: `dense`; `fast`, or `auto` for each layer's planned execution, with which layers that
            run fast in an operator stay structured.
    """
    network = whole_copy(network).float()
    if not fold:
        return Prepared(to_dense(network).eval().requires_grad_(False))
    if not factors:
        ready, not_fast = in_operators(for_inference(network, input_size, execution, fuse=False))
        return Prepared(ready, notes=not_fast)
    kept = folded(network, input_size, copy.deepcopy)
    makings: dict[str, nn.Module] = {}
    without: dict[str, list[str]] = {}
    names: dict[int, list[str]] = {}
    for name, module in kept.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    for layer in structured_layers(kept):
        if _runs_fast(layer, execution):
            layer.execution = "fast"
            continue
        own, plain = _numbers(layer), plain_layers(layer)
        if _numbers(plain) > own:
            plain, made = multiplied_out(layer), layer.made_weights()
            sizes = {name: p.numel() for name, p in plain.named_parameters()}
            made = {name: making for name, making in made.items() if name in sizes}
            if not made:
                without.setdefault(type(layer).__name__, []).append(names[id(layer)][0])
            for place in names[id(layer)]:
                makings |= {f"{place}.{name}" if place else name: m for name, m in made.items()}
        if layer is kept:
            kept = plain
        else:
            replace_module(kept, layer, plain)
    notes = [
        f"{listed(places, 3)}: a {kind} has no form that makes its weight from factors in a graph; it "
        "is written multiplied out."
        for kind, places in without.items()
    ]
    return Prepared(kept.eval().requires_grad_(False), makings, notes)


def _runs_fast(layer: StructuredLayer, execution: str) -> bool:
    wanted = layer.planned_execution if execution == "auto" else execution
    return wanted == "fast" and layer.fused(torch.float32)


def in_operators(network: nn.Module) -> tuple[nn.Module, list[str]]:
    """A network whose structured layers all have an operator that runs them fast, in float32.

    Args:
        network: A network whose structured layers run fast; it is not changed.

    Returns:
        The network itself, or a copy in which the others have become their plain layers (which are thin
        ones in a row for some families); and a sentence on those whose structure is lost by that.
    """
    names = {id(module): name for name, module in network.named_modules()}
    others = [one for one in structured_layers(network) if not one.fused(torch.float32)]
    if not others:
        return network, []
    whole = others[0] is network
    copied = nn.Sequential(network) if whole else whole_copy(network)
    lost = []
    for one in others:
        layer, plain = one if whole else copied.get_submodule(names[id(one)]), plain_layers(one)
        replace_module(copied, layer, plain)
        if _numbers(plain) > _numbers(one):
            lost.append(names[id(one)] or "the network")
    notes = [
        f"{listed(lost, 3)}: there is no operator for this fast transform; it is written multiplied out."
    ]
    return copied.eval().requires_grad_(False), notes if lost else []


def _numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
