"""A clock whose times of layers and of the whole network are given, and a network planned by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from listening import Listening
from torch import Tensor, nn

from seclcompress.plan import ORIGINAL, LayerPlan, Plan
from seclcompress.settings import PlanOptions
from seclcompress.substitutions import StructuredLayer
from seclcompress.timing import Timing
from seclcompress.workflows.planning import Planned, plan_network

LAYERS = ("group3.0.conv1", "group3.0.conv2", "group3.0.shortcut")
FIRST, SECOND, SHORTCUT = LAYERS


@dataclass
class Clock:
    """Every layer has the times of `alone`; a network has 100 ms and a time for each way of a layer.

    Attributes:
        alone: Milliseconds of a layer's executions.
        whole: Milliseconds of a layer's way in the network; 0 where it is not named.
        spread: The interquartile range of a network's times, in milliseconds.
        last: Milliseconds of all layers dense in the last race, if they are others there.
        named: The layers whose ways are looked at.
        networks: How many networks were timed, and in how many races.
    """

    alone: Mapping[str, float]
    whole: Mapping[tuple[str, str], float]
    spread: float = 0.0
    last: float | None = None
    named: tuple[str, ...] = LAYERS
    runtime: str = "onnxruntime"
    executions: tuple[str, ...] = ("dense", "fast")
    networks: int = 0
    races: int = 0

    def about(self) -> dict[str, Any]:
        return {"runtime": "a clock of tests"}

    def time(self, candidates: Mapping[str, nn.Module], x: Tensor) -> dict[str, Timing]:
        if x.shape[1:] != (3, 32, 32):
            return {name: Timing(self.alone[name] / 1e3, 0.0) for name in candidates}
        self.networks, self.races = self.networks + len(candidates), self.races + 1
        times = {name: 100.0 + self._ways(network) for name, network in candidates.items()}
        if self.last is not None and len(candidates) > 2:
            dense = [name for name, one in candidates.items() if _dense(one)]
            times |= dict.fromkeys(dense, self.last)
        return {name: Timing(ms / 1e3, self.spread / 1e3) for name, ms in times.items()}

    def _ways(self, network: nn.Module) -> float:
        return sum(self.whole.get((name, _way(network, name)), 0.0) for name in self.named)


def _way(network: nn.Module, name: str) -> str:
    layer = network.get_submodule(name)
    if isinstance(layer, StructuredLayer):
        return "fast"
    # A 1×1 layer is one convolution, whether it is kept or rewritten and dense.
    kept = isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
    return ORIGINAL if kept else "dense"


def _dense(network: nn.Module) -> bool:
    return all(_way(network, name) == "dense" for name in LAYERS)


def planned(
    clock: Any, monkeypatch: pytest.MonkeyPatch, told: Listening | None = None, **how: Any
) -> Planned:
    monkeypatch.setattr("seclcompress.workflows.planning.clock_of", lambda *_, **__: clock)
    batch = how.pop("batch", 1)
    given: dict[str, Any] = {
        "cost_model": "measured",
        "runtime": "onnxruntime",
        "objective": "time",
    }
    options = PlanOptions(config={"depth": 2}, **{"only": ("group3",), **given, **how})
    return plan_network(
        "wrn10_1",
        options=options,
        input_size=(3, 32, 32),
        may_be_empty=True,
        batch=batch,
        observer=told or Listening(),
    )


def ways(plan: Plan) -> dict[str, tuple[str, str | None]]:
    return {
        layer.name: (layer.execution if layer.action == "rewrite" else ORIGINAL, layer.alone)
        for layer in plan.layers
        if layer.name in LAYERS
    }


def entry(plan: Plan, name: str) -> LayerPlan:
    return next(layer for layer in plan.layers if layer.name == name)


FAST = {ORIGINAL: 3.0, "dense": 2.0, "fast": 1.0}
#: Fast, the first layer makes the network slower, the others make it faster.
MIXED = {(FIRST, "fast"): 4.0, (SECOND, "fast"): -2.0, (SHORTCUT, "fast"): -1.0}
UNDONE_FIRST = {FIRST: ("dense", "fast"), SECOND: ("fast", None), SHORTCUT: ("fast", None)}
