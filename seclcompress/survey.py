"""The effect of a rewrite on each of torchvision's networks, in a form that fits one line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from seclcompress.count import Count
from seclcompress.networks import torchvision_zoo
from seclcompress.plan import Plan

#: The end of the general part of a plan's reason, where the particulars of the layer begin.
_PARTICULARS = re.compile(r"[:;(]| by | with ")


@dataclass(frozen=True)
class Surveyed:
    """The survey's result for one network.

    Attributes:
        network: The network's name.
        seconds: Time for building the skeleton, tracing, planning and counting.
        rewritten: Number of layers that would be rewritten.
        kept: Reasons to keep layers, without the particulars, each with its number of layers.
        counted: The network's figures; None if it was refused.
        refused: Why the network was refused; None if it was not.
        expected: Whether the refusal is expected, as it is for quantised networks.
        slower: By the runtime in which they were timed, the number of layers that are rewritten though
            that makes them slower; empty where there are none.
    """

    network: str
    seconds: float
    rewritten: int = 0
    kept: tuple[tuple[str, int], ...] = ()
    counted: Count | None = None
    refused: str | None = None
    expected: bool = False
    slower: Mapping[str, int] = field(default_factory=dict)


def names() -> list[str]:
    """The names of all of torchvision's networks, the quantised ones last."""
    return [*torchvision_zoo.SOURCE.names(), *torchvision_zoo.quantised_names()]


def kept_because(plan: Plan) -> tuple[tuple[str, int], ...]:
    """A plan's reasons to keep layers, each with its number of layers, the most frequent first."""
    kept = Counter(
        _PARTICULARS.split(layer.reason)[0].strip()
        for layer in plan.layers
        if layer.action == "keep"
    )
    return tuple(kept.most_common())


def slower_layers(plan: Plan) -> dict[str, int]:
    """By runtime, the number of a plan's layers that are rewritten though that makes them slower."""
    number = sum(layer.slower for layer in plan.rewritten)
    return {plan.timed_in: number} if number else {}
