"""What a rewrite would do to one network after another, in a form that fits a line each."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from seclcompress.count import Count, count_network
from seclcompress.errors import SeclcompressError
from seclcompress.networks import torchvision_zoo
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.resolve import locate
from seclcompress.trace import trace_network

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


def survey(networks: Iterable[str], options: PlanOptions) -> Iterator[Surveyed]:
    """Traces, plans and counts networks at their usual sizes, one after the other.

    Nothing is built with values and nothing is run: figures come from shapes.

    Args:
        networks: Names that `networks.named_spec` knows, or quantised ones.
        options: What is asked of every plan.
    """
    for name in networks:
        start = time.perf_counter()
        try:
            found = _one(name, options)
        except SeclcompressError as error:
            refused = str(error)
            expected = torchvision_zoo.SOURCE.refusal(name) is not None
            seconds = time.perf_counter() - start
            yield Surveyed(name, seconds, refused=refused, expected=expected)
            continue
        yield Surveyed(name, time.perf_counter() - start, *found)


def _one(name: str, options: PlanOptions) -> tuple[int, tuple[tuple[str, int], ...], Count]:
    source = locate(name)
    network = source.skeleton()
    trace = trace_network(network, source.input_size)
    plan = make_plan(network, trace, options, may_be_empty=True)
    kept = Counter(
        _PARTICULARS.split(layer.reason)[0].strip()
        for layer in plan.layers
        if layer.action == "keep"
    )
    counted = count_network(network, trace, plan)
    return len(plan.rewritten), tuple(kept.most_common()), counted
