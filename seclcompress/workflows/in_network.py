"""What was chosen for each layer alone is confirmed, or undone, by the clock of the whole network."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from seclcompress.cost import DENSE
from seclcompress.measure import Clock, Stopwatch, faster
from seclcompress.plan import ORIGINAL, Choice, Chooser, LayerPlan, Plan, is_slower
from seclcompress.resolve import Located
from seclcompress.settings.planning import Objective
from seclcompress.substitutions import Site, Substitution, SubstitutionConfig
from seclcompress.workflows.whole_network import Races

#: What the plan is timed beside at the end, and itself: each layer as its own clock has it.
ALONE, CHOSEN = "alone", "chosen"

#: Ways of layers that their own clocks did not choose: an execution, or `original` to keep one.
Ways = Mapping[str, str]
#: Makes the plan in which some layers have other ways.
Planning = Callable[[Ways], Plan]


@dataclass(frozen=True)
class Confirmed:
    """A plan by the clock of the whole network.

    Attributes:
        plan: The plan.
        seconds: Seconds of the network as it is (`original`), with every layer `dense`, with each layer
            as its own clock chose (`alone`), and as planned (`chosen`); timed in turn.
        choices: How many layers' own clocks chose something else than dense.
        undone: How many of these choices are undone.
        unsteady: How many of the comparisons varied so much that they are not remembered.
        slower: Whether the plan is slower than the network as it is, by more than chance makes.
    """

    plan: Plan
    seconds: Mapping[str, float]
    choices: int
    undone: int
    unsteady: int
    slower: bool


@dataclass(frozen=True)
class Group:
    """Equal layers for which the same was chosen.

    Attributes:
        names: The layers' names.
        ways: What their own clock chose, and then the others that the network's clock may choose.
    """

    names: tuple[str, ...]
    ways: tuple[str, ...]


def given_ways(stopwatch: Stopwatch, ways: Ways, objective: Objective) -> Chooser:
    """A chooser that gives some layers other ways, and notes what their own clocks chose.

    Args:
        stopwatch: Chooses by each layer's own clock.
        ways: The ways by layer.
        objective: What the plan is for; with `time`, a layer's own clock can choose to keep it.
    """

    def chosen(site: Site, substitution: Substitution, config: SubstitutionConfig) -> Choice:
        own = stopwatch.choose(site, substitution, config)
        kept = objective == "time" and own.slower is not None
        alone = ORIGINAL if kept else own.execution
        way = ways.get(site.name, alone)
        if way == alone:
            return own
        if way == ORIGINAL:
            return replace(own, execution=ORIGINAL, alone=alone)
        return replace(stopwatch.choose(site, substitution, config, way), alone=alone)

    return chosen


def groups(plan: Plan, dense: Plan) -> list[Group]:
    """Layers that were not chosen to be dense, equal ones together; those that gain least come first.

    Args:
        plan: A plan whose layers were timed one by one.
        dense: The same with every such layer dense.
    """
    found: dict[str, list[tuple[LayerPlan, LayerPlan]]] = {}
    for layer, rewritten in zip(plan.layers, dense.layers, strict=True):
        if _timed_way(layer) != DENSE:
            found.setdefault(_kind(layer, rewritten), []).append((layer, rewritten))
    by_gain = sorted(found.values(), key=lambda pairs: sum(_gain(layer) for layer, _ in pairs))
    return [
        Group(tuple(layer.name for layer, _ in pairs), _ways(*pairs[0], plan.objective))
        for pairs in by_gain
    ]


def _timed_way(layer: LayerPlan) -> str:
    """What a layer's clock chose; `dense` for a layer about which no clock was asked."""
    return DENSE if layer.seconds is None else layer.way


def _ways(layer: LayerPlan, rewritten: LayerPlan, objective: Objective) -> tuple[str, ...]:
    """The layer's own, dense, and to keep it where time matters and dense is slower than that."""
    own = _timed_way(layer)
    keeps = (
        objective == "time"
        and own != ORIGINAL
        and is_slower(rewritten.seconds, DENSE, rewritten.noise)
    )
    return (own, DENSE, ORIGINAL) if keeps else (own, DENSE)


def _gain(layer: LayerPlan) -> float:
    assert layer.seconds is not None
    return layer.seconds[DENSE] - layer.seconds[_timed_way(layer)]


def _kind(layer: LayerPlan, rewritten: LayerPlan) -> str:
    """Equal for layers of equal shape, replacement and choice."""
    calls = [call.model_dump(mode="json") for call in layer.calls]
    replacement = [rewritten.substitution, rewritten.config]
    return json.dumps([layer.layer, calls, *replacement, _timed_way(layer)])


def confirm(
    alone: Plan,
    planning: Planning,
    clock: Clock,
    located: Located,
    batch: int,
    tell: Callable[[str], object],
) -> Confirmed | None:
    """Chooses again by the clock of the whole network what was not chosen to be dense.

    A layer that is faster alone can make its network slower: a runtime fuses layers and keeps maps in
    its own layout, and another execution ends that. The search starts with each layer as its own clock
    has it, or with every layer dense if that is faster by more than chance. It then tries the other ways
    of one group of equal layers after another, and takes what is faster by more than chance. At the end
    the plan is timed beside both starts, and gives way to one that is faster by more than chance.

    Args:
        alone: The plan by each layer's own clock.
        planning: Makes those with other ways.
        clock: The clock of the runtime.
        located: The network; its weights do not matter to times, and are random.
        batch: Images per batch.
        tell: Is called with what is done.

    Returns:
        The plan; None where every layer is dense already, so that there is no choice.

    Raises:
        ExportError: If the network cannot be timed in the runtime.
    """
    names = [layer.name for layer in alone.layers if _timed_way(layer) != DENSE]
    if not names:
        return None
    dense = planning(dict.fromkeys(names, DENSE))
    found = groups(alone, dense)
    races = Races(clock, located, batch)
    total = 1 + sum(len(group.ways) - 1 for group in found)
    steps = itertools.count(1)

    def plan_of(ways: Sequence[str]) -> Plan:
        pairs = zip(found, ways, strict=True)
        return planning({name: way for group, way in pairs for name in group.names})

    def quicker(other: Sequence[str], now: Sequence[str]) -> bool:
        tell(f"Measuring the whole network ({next(steps)} of {total})")
        times = races.run({"now": plan_of(now), "other": plan_of(other)})
        return faster(times["other"], times["now"])

    chosen = search(found, quicker)
    tell("Measuring the whole network beside the original")
    plans = {ALONE: alone, DENSE: dense, CHOSEN: plan_of(chosen)}
    times = races.run({ORIGINAL: None, **plans})
    ahead = [name for name in (ALONE, DENSE) if faster(times[name], times[CHOSEN])]
    if ahead:
        fastest = min(ahead, key=lambda name: times[name].median)
        plans[CHOSEN], times[CHOSEN] = plans[fastest], times[fastest]
    plan = plans[CHOSEN]
    return Confirmed(
        plan,
        {name: timing.median for name, timing in times.items()},
        len(names),
        sum(layer.alone is not None for layer in plan.layers),
        races.unsteady,
        faster(times[ORIGINAL], times[CHOSEN]),
    )


def search(
    found: Sequence[Group],
    quicker: Callable[[tuple[str, ...], tuple[str, ...]], bool],
) -> tuple[str, ...]:
    """The way of each group: their own or all dense, then the other ways of one group after another.

    Args:
        found: The groups.
        quicker: Whether the network with one way for each group is faster than with another.
    """
    now = tuple(group.ways[0] for group in found)
    dense = (DENSE,) * len(found)
    if quicker(dense, now):
        now = dense
    for place, group in enumerate(found):
        for way in [way for way in group.ways if way != now[place]]:
            other = (*now[:place], way, *now[place + 1 :])
            if quicker(other, now):
                now = other
    return now
