"""The layers with an entry in a plan: their names, their order, and other users of their weights."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from seclcompress.errors import PlanError
from seclcompress.settings.planning import PlanOptions
from seclcompress.substitutions import structured_layers
from seclcompress.substitutions.site import CONVOLUTION_KINDS, LINEAR_KINDS
from seclcompress.trace import Trace


def convolutions(network: nn.Module) -> dict[str, nn.Module]:
    """Every convolution of a network by name: subclasses, grouped and transposed ones included."""
    return _modules(network, CONVOLUTION_KINDS)


def plannable(network: nn.Module, *, linear: bool) -> dict[str, nn.Module]:
    """Every layer with an entry in a plan, by name, without the parts of structured layers.

    Args:
        network: Any module.
        linear: Whether Linears and multi-head attention are among them.
    """
    return _modules(network, CONVOLUTION_KINDS + (LINEAR_KINDS if linear else ()))


def _modules(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> dict[str, nn.Module]:
    inside = {
        id(part)
        for layer in structured_layers(network)
        for part in layer.modules()
        if part is not layer
    }
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, kinds) and id(module) not in inside
    }


def bound_layers(
    network: nn.Module, found: Mapping[str, nn.Module], trace: Trace
) -> dict[str, str]:
    """Reasons to keep the layers whose parameters other modules share or read, by name.

    A replacement has no parameters that the other modules could use.

    Args:
        network: The network that was traced.
        found: The layers to check, by name.
        trace: The network's trace.
    """
    users: dict[int, list[str]] = {}
    for name, module in network.named_modules():
        for parameter in module.parameters(recurse=False):
            users.setdefault(id(parameter), []).append(name)
    reasons = {}
    for names in users.values():
        for name in names:
            others = [other for other in names if other != name]
            if others and name in found:
                reasons[name] = f"its weights are shared with {', '.join(others[:2])}"
    for name, reader in trace.readers.items():
        if name in found:
            whose = reader or "the network"
            reasons.setdefault(name, f"its weights are read by {whose} itself")
    return reasons


def running_order(found: Mapping[str, nn.Module], trace: Trace) -> list[str]:
    """Names of layers in the order in which they first finish; layers that did not run come last."""
    ran = [call.name for call in trace.calls if call.name in found]
    return list(dict.fromkeys([*ran, *found]))


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern (`*`, `?`, `[…]`) matches this layer or a module that contains it."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def check_pattern(flag: str, pattern: str, names: Sequence[str], options: PlanOptions) -> None:
    """Checks that a pattern matches at least one of these layers.

    Args:
        flag: The option that the pattern was given with, for the message.
        pattern: As in `matches`.
        names: The names of the layers.
        options: The options of the plan.

    Raises:
        PlanError: If it matches none; the message lists the nearest names.
    """
    if any(matches(pattern, name) for name in names):
        return
    near = difflib.get_close_matches(pattern, names, cutoff=0.5) or list(names[:3])
    kind = "layers" if options.linear else "convolutions"
    raise PlanError(
        f"{flag} {pattern!r} matches none of the {len(names)} {kind}. "
        f"There are, for instance: {', '.join(near)}."
    )
