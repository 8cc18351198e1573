"""What a rewrite would do to a network, in a form that fits a line."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from seclcompress.count import Count
from seclcompress.networks import torchvision_zoo
from seclcompress.plan import Plan

#: Where the general part of a plan's reason ends.
_PARTICULARS = re.compile(r"[:;(]| by | with ")


@dataclass(frozen=True)
class Surveyed:
    """One network.

    Attributes:
        network: Its name.
        seconds: What building its skeleton, tracing, planning and counting took.
        rewritten: Layers that would be rewritten.
        kept: How many layers are kept for which reason, without the particulars.
        counted: Its figures; None where it was refused.
        refused: Why nothing could be said of it.
        expected: Whether it is known that the network is refused: it is a quantised one.
    """

    network: str
    seconds: float
    rewritten: int = 0
    kept: tuple[tuple[str, int], ...] = ()
    counted: Count | None = None
    refused: str | None = None
    expected: bool = False


def names() -> list[str]:
    """All of torchvision's networks, the quantised ones last."""
    return [*torchvision_zoo.SOURCE.names(), *torchvision_zoo.quantised_names()]


def kept_because(plan: Plan) -> tuple[tuple[str, int], ...]:
    """How many layers a plan keeps for which reason, without the particulars; the commonest first."""
    kept = Counter(
        _PARTICULARS.split(layer.reason)[0].strip()
        for layer in plan.layers
        if layer.action == "keep"
    )
    return tuple(kept.most_common())
