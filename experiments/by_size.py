"""Options of each family from smallest to largest, and those that meet a number of parameters."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from narrowed import FULL, RECOVERED, SLIMMED

from seclcompress import substitutions
from seclcompress.count import count_network
from seclcompress.errors import SeclcompressError
from seclcompress.settings import PlanOptions
from seclcompress.workflows.planning import Planned, decide, plan_network

#: The shares of a dense map's parameters that are tried for families with a `ratio`.
RATIOS = tuple(round(2 ** (-step / 8), 4) for step in range(60))
#: A candidate may miss the number of parameters by this share.
TOLERANCE = 0.1
#: Behind a family's name: the structure is the whole kernel's (`on=kernel`), without a depthwise part.
KERNEL = "/kernel"
_LARGEST_SHARE = 0.75
_SHORTCUTS = "*.shortcut"


@dataclass(frozen=True)
class Candidate:
    """A network and how it is converted.

    Attributes:
        family: The family's name, perhaps behind `RECOVERED`; `narrower` is a separable network of
            fewer channels, `full` one that is not rewritten, and `narrowed.SLIMMED` are the teacher with
            fewer channels.
        network: The network's name.
        options: The planning options.
        parameters: The parameters of the converted network.
        mult_adds: Its Mult-Adds, each layer by its cheapest execution.
    """

    family: str
    network: str
    options: PlanOptions
    parameters: int
    mult_adds: int

    @property
    def words(self) -> str:
        """The options in short: `depth=12`; `shortcuts` where those are rewritten, too."""
        parts = [f"{name}={value}" for name, value in self.options.config.items()]
        if self.family in ("narrower", FULL):
            parts.append(self.network)
        if self.family in (FULL, *SLIMMED):
            return ", ".join(parts)
        if not self.options.keep:
            parts.append("shortcuts too")
        return ", ".join(parts)


def settings_of(family: str) -> Iterator[dict[str, Any]]:
    """The options of a family that are tried, as `PlanOptions.config`."""
    by_hand: dict[str, dict[str, tuple[Any, ...]]] = {
        "acdc": {"block": (1, 2, 4), "depth": tuple(range(2, 17))},
        "afdf": {"block": (1, 2, 4), "depth": tuple(range(1, 9))},
        "shuffle": {"layers": (2, 1, 3), "groups": (1, 2, 4, 8, 16, 32)},
        "bottleneck": {
            "groups": ("depthwise", 2, 4, 8, 16, "full"),
            "reduction": (2, 4, 8, 16),
        },
        "butterfly": {"block": (1, 2, 4, 8, 16, 32)},
        "symmetric": {"form": ("triangular", "chunk-4", "block-4", "triangle-8")},
    }
    if family in by_hand:
        names, values = by_hand[family].keys(), by_hand[family].values()
        for chosen in itertools.product(*values):
            config = dict(zip(names, chosen, strict=True))
            if config != {"layers": 1, "groups": 1}:  # that is a plain matrix
                yield config
        return
    name, of_kernel, _ = family.partition(KERNEL)
    fields = substitutions.get(name).Config.model_fields
    on = {"on": "kernel"} if of_kernel else {}
    if "ratio" not in fields:
        yield on
        return
    for ratio in RATIOS:
        # Behind a depthwise part, a larger share would be no more than a plain matrix in other words.
        if of_kernel or "on" not in fields or ratio <= _LARGEST_SHARE:
            yield {**on, "ratio": ratio}


def families() -> list[str]:
    """All families, those that can be the whole kernel also as that, and `narrower`.

    By name there are also the `narrowed.SLIMMED`, `narrowed.FULL`, and each family of the contract
    behind `RECOVERED`.
    """
    names = substitutions.names()
    whole = [name for name in names if "on" in substitutions.get(name).Config.model_fields]
    return [*names, *(name + KERNEL for name in whole), "narrower"]


def nearest(family: str, network: str, size: int) -> Candidate:
    """The options with which a family's network has nearly so many parameters.

    Shortcuts are kept where the family meets the number so, and rewritten otherwise.

    Args:
        family: One of `families`, or another name that it speaks of.
        network: The teacher, a name such as `wrn10_2`.
        size: The parameters to meet.

    Returns:
        The nearest candidate, which may be far off: see `TOLERANCE`.

    Raises:
        SeclcompressError: If the family takes no layer of the network.
    """
    if family in SLIMMED:  # made from the teacher's weights, when those are there
        return Candidate(family, network, PlanOptions(), size, 0)
    if family.startswith(RECOVERED):
        return replace(nearest(family.removeprefix(RECOVERED), network, size), family=family)
    best: Candidate | None = None
    for keep in ((_SHORTCUTS,), ()):
        found = _all(family, network, keep)
        if found:
            nearer = min(found, key=lambda one: abs(one.parameters - size))
            if best is None or _miss(nearer, size) < _miss(best, size):
                best = nearer
            if _miss(best, size) <= TOLERANCE / 2:
                break
    if best is None:
        raise SeclcompressError(f"{family} takes no layer of {network}.")
    return best


def _miss(one: Candidate, size: int) -> float:
    return abs(one.parameters - size) / size


@cache
def _all(family: str, network: str, keep: tuple[str, ...]) -> list[Candidate]:
    if family in ("narrower", FULL):
        stem, _, width = network.rpartition("_")
        names = [f"{stem}_{float(width) * step / 40:g}" for step in range(8, 61)]
        if family == FULL:
            return [_as_it_is(name) for name in names]
        plain = PlanOptions(substitution="separable", keep=keep)
        made = [_candidate(family, name, plain) for name in names]
    else:
        every = [
            PlanOptions(substitution=family.partition(KERNEL)[0], config=config, keep=keep)
            for config in settings_of(family)
        ]
        made = [_candidate(family, network, options) for options in every]
    return [one for one in made if one is not None]


def _as_it_is(network: str) -> Candidate:
    base = _skeleton(network)
    totals = count_network(base.skeleton, base.trace, base.plan).column("original")
    return Candidate(FULL, network, PlanOptions(), totals.parameters, totals.mult_adds)


def _candidate(family: str, network: str, options: PlanOptions) -> Candidate | None:
    base = _skeleton(network)
    try:
        plan = decide(base.skeleton, base.trace, options)
    except SeclcompressError:
        return None  # it refuses all layers with these options
    totals = count_network(base.skeleton, base.trace, plan).column("auto")
    return Candidate(family, network, options, totals.parameters, totals.mult_adds)


@cache
def _skeleton(network: str) -> Planned:
    plain = PlanOptions(substitution="separable")
    return plan_network(network, options=plain, input_size=(3, 32, 32), num_classes=10)
