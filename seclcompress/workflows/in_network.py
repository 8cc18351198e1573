"""Executions that were chosen for each layer alone are confirmed by the clock of the whole network."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from seclcompress import artefact, networks
from seclcompress.cost import EXECUTIONS
from seclcompress.export.plain import example
from seclcompress.files import Cache
from seclcompress.inference import for_inference
from seclcompress.measure import Clock, chance, default_cache
from seclcompress.plan import ORIGINAL, Choice, Chooser, LayerPlan, Plan
from seclcompress.resolve import Located
from seclcompress.rewrite import rewrite_network
from seclcompress.settings.planning import TORCH, Objective
from seclcompress.substitutions import Site, Substitution, SubstitutionConfig
from seclcompress.timing import Timing, processor

#: The way of a layer that every family and every runtime has.
_DENSE = EXECUTIONS[0]
#: What is timed last beside the plan: every layer dense, and each as its own clock would have it.
DENSE, ALONE, CHOSEN = "dense", "alone", "chosen"

#: Makes the plan in which some layers, by name, are dense whatever their own clock chose.
Undoing = Callable[[Collection[str]], Plan]


@dataclass(frozen=True)
class Confirmed:
    """A plan by the clock of the whole network.

    Attributes:
        plan: The plan.
        seconds: Seconds of the network as it is (`original`), with every layer `dense`, with each layer
            as its own clock chose (`alone`), and as planned (`chosen`); timed in turn.
        choices: How many layers' own clocks chose something else than dense.
        undone: How many of these choices are undone.
    """

    plan: Plan
    seconds: Mapping[str, float]
    choices: int
    undone: int


def without(choose: Chooser, undone: Collection[str], objective: Objective) -> Chooser:
    """A chooser that makes some layers dense, and notes what their own clocks chose.

    Args:
        choose: Chooses by each layer's own clock.
        undone: The layers' names.
        objective: What the plan is for; with `time`, clocks can choose the layer as it is.
    """

    def chosen(site: Site, substitution: Substitution, config: SubstitutionConfig) -> Choice:
        choice = choose(site, substitution, config)
        if site.name not in undone:
            return choice
        kept = objective == "time" and choice.slower is not None
        alone = ORIGINAL if kept else choice.execution
        return replace(choice, execution=_DENSE, alone=alone)

    return chosen


def groups(plan: Plan) -> list[frozenset[str]]:
    """Layers that were not chosen to be dense, equal ones together; those that gain least come first.

    Args:
        plan: A plan whose layers were timed one by one.
    """
    found: dict[str, list[LayerPlan]] = {}
    for layer in plan.layers:
        if _timed_way(layer) != _DENSE:
            found.setdefault(_kind(layer), []).append(layer)
    by_gain = sorted(found.values(), key=lambda layers: sum(map(_gain, layers)))
    return [frozenset(layer.name for layer in layers) for layers in by_gain]


def _timed_way(layer: LayerPlan) -> str:
    """What a layer's clock chose; `dense` for a layer about which no clock was asked."""
    if layer.seconds is None:
        return _DENSE
    return layer.execution if layer.action == "rewrite" else ORIGINAL


def _gain(layer: LayerPlan) -> float:
    assert layer.seconds is not None
    return layer.seconds[_DENSE] - layer.seconds[_timed_way(layer)]


def _kind(layer: LayerPlan) -> str:
    """Equal for layers of equal shape, replacement and choice."""
    calls = [call.model_dump(mode="json") for call in layer.calls]
    return json.dumps([layer.layer, calls, layer.substitution, layer.config, _timed_way(layer)])


def confirm(
    alone: Plan,
    undoing: Undoing,
    clock: Clock,
    located: Located,
    batch: int,
    tell: Callable[[str], object],
) -> Confirmed | None:
    """Chooses again by the clock of the whole network what was not chosen to be dense.

    A layer that is faster alone can make its network slower: a runtime fuses layers and keeps maps in
    its own layout, and another execution ends that. The search starts at the faster of two plans, each
    layer as its own clock has it and every layer dense. It then turns over one group of equal layers
    after another, and keeps what is faster by more than chance. At the end the plan is timed beside
    both, and the fastest is taken.

    Args:
        alone: The plan by each layer's own clock.
        undoing: Makes the plan without some of its choices.
        clock: The clock of the runtime.
        located: The network; its weights do not matter to times, and are random.
        batch: Images per batch.
        tell: Is called with what is done.

    Returns:
        The plan; None where every layer is dense already, so that there is no choice.

    Raises:
        ExportError: If the network cannot be timed in the runtime.
    """
    turned = groups(alone)
    if not turned:
        return None
    races = _Races(undoing, clock, located, batch)
    every = frozenset[str]().union(*turned)
    steps = itertools.count(1)

    def quicker(other: frozenset[str], now: frozenset[str]) -> bool:
        tell(f"Measuring the whole network ({next(steps)} of {len(turned) + 1})")
        times = races.run({"now": now, "other": other})
        return _faster(times["other"], times["now"])

    undone = search(turned, quicker)
    tell("Measuring the whole network beside the original")
    times = races.run({ORIGINAL: None, DENSE: every, ALONE: frozenset(), CHOSEN: undone})
    fastest = min((CHOSEN, ALONE, DENSE), key=lambda name: times[name].median)
    if _faster(times[fastest], times[CHOSEN]):
        undone = {ALONE: frozenset[str](), DENSE: every}[fastest]
        times[CHOSEN] = times[fastest]
    seconds = {name: timing.median for name, timing in times.items()}
    return Confirmed(undoing(undone), seconds, len(every), len(undone))


def search(
    turned: Sequence[frozenset[str]],
    quicker: Callable[[frozenset[str], frozenset[str]], bool],
) -> frozenset[str]:
    """The layers whose choice is undone: all or none, then one group after another turned over.

    Args:
        turned: Groups of layers.
        quicker: Whether the network with one set of layers undone is faster than with another.
    """
    undone = frozenset[str]()
    for group in (frozenset[str]().union(*turned), *turned):
        other = undone ^ group
        if quicker(other, undone):
            undone = other
    return undone


def _faster(one: Timing, other: Timing) -> bool:
    return one.median + chance(one, other) < other.median


@dataclass
class _Races:
    """Times variants of the whole network in turn, and remembers the results.

    So a second plan measures nothing, and one that was interrupted goes on where it was.
    """

    undoing: Undoing
    clock: Clock
    located: Located
    batch: int
    _kept: Cache[dict[str, list[float]]] = field(init=False)

    def __post_init__(self) -> None:
        path = default_cache().with_name("network_races.json")
        own_code = networks.sources.get(self.located.network.source).runs_foreign_code
        self._kept = Cache(None if own_code else path, _sound, "Timings")  # that code may change

    def run(self, variants: Mapping[str, frozenset[str] | None]) -> dict[str, Timing]:
        """Times variants, given by the layers whose choice is undone; None is the network as it is."""
        plans = {
            name: None if undone is None else self.undoing(undone)
            for name, undone in variants.items()
        }
        key = self._key(plans)
        if key not in self._kept.known:
            ready = {name: self._ready(plan) for name, plan in plans.items()}
            images = example(next(iter(ready.values())), self.located.input_size, self.batch)
            times = self.clock.time(ready, images)
            self._kept.known[key] = {name: [t.median, t.spread] for name, t in times.items()}
            if not any(timing.is_unsteady for timing in times.values()):
                self._kept.keep(key)
        return {name: Timing(*known) for name, known in self._kept.known[key].items()}

    def _ready(self, plan: Plan | None) -> nn.Module:
        where = self.located
        network = networks.build_untrained(where.network, factory_name=where.factory_name, seed=0)
        if plan is not None and plan.rewritten:
            network = rewrite_network(network, plan)
        fuse = self.clock.runtime == TORCH  # other runtimes fuse by themselves
        return for_inference(network.eval(), where.input_size, fuse=fuse)

    def _key(self, plans: Mapping[str, Plan | None]) -> str:
        about: dict[str, Any] = {
            "network": self.located.network.model_dump(mode="json"),
            "input": self.located.input_size,
            "batch": self.batch,
            "plans": {
                name: "" if plan is None else _digest(plan.layers) for name, plan in plans.items()
            },
            "processor": processor(),
            "threads": torch.get_num_threads(),
            **self.clock.about(),
            **artefact.library_versions(),
        }
        return json.dumps(about, sort_keys=True)


def _digest(layers: Iterable[LayerPlan]) -> str:
    """Of what becomes of the layers."""
    said = [
        [one.name, one.action, one.substitution, one.config, one.execution]
        for one in layers
        if one.action == "rewrite"
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _sound(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(seconds, float) and 0 <= seconds < 1e6 for seconds in pair)
        for pair in value.values()
    )
