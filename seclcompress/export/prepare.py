"""A network ready to be exported: torch's own layers, and which of their weights come from factors."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from seclcompress.inference import folded, for_inference
from seclcompress.rewrite import replace_module, to_dense
from seclcompress.substitutions import (
    multiplied_out,
    plain_layers,
    structured_layers,
)
from seclcompress.trace import whole_copy
from seclcompress.wording import listed


@dataclass(frozen=True)
class Prepared:
    """A network of torch's own layers, in eval mode, with batch norm folded away.

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
    network: nn.Module, input_size: tuple[int, ...], *, factors: bool = False, fold: bool = True
) -> Prepared:
    """Prepares a copy of a network for export.

    Args:
        network: Any network; it is not changed.
        input_size: (channels, *spatial).
        factors: Whether weights that are made from fewer numbers keep them. A layer whose structure
            torch's layers can express becomes those layers; one whose weights cannot be made from
            factors in a graph is multiplied out, and `notes` names it.
        fold: Whether to fold batch norm; without that, all weights are dense.
    """
    network = whole_copy(network).float()
    if not fold:
        return Prepared(to_dense(network).eval().requires_grad_(False))
    if not factors:
        return Prepared(for_inference(network, input_size, "dense", fuse=False))
    kept = folded(network, input_size, copy.deepcopy)
    makings: dict[str, nn.Module] = {}
    without: dict[str, list[str]] = {}
    names: dict[int, list[str]] = {}
    for name, module in kept.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    for layer in structured_layers(kept):
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


def _numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
