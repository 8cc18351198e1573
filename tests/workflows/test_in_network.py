"""Choices of single layers under the clock of the whole network. All times are given."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from listening import Listening
from torch import Tensor, nn

from seclcompress.plan import ORIGINAL, Plan, fit_plan
from seclcompress.settings import PlanOptions
from seclcompress.substitutions import StructuredLayer
from seclcompress.timing import Timing
from seclcompress.workflows import in_network
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
    """

    alone: Mapping[str, float]
    whole: Mapping[tuple[str, str], float]
    spread: float = 0.0
    runtime: str = "onnxruntime"
    executions: tuple[str, ...] = ("dense", "fast")
    networks: int = 0
    together: list[dict[str, float]] = field(default_factory=list)

    def about(self) -> dict[str, Any]:
        return {"runtime": "a clock of tests"}

    def time(self, candidates: Mapping[str, nn.Module], x: Tensor) -> dict[str, Timing]:
        if x.shape[1:] != (3, 32, 32):
            return {name: Timing(self.alone[name] / 1e3, 0.0) for name in candidates}
        self.networks += len(candidates)
        times = {name: 100.0 + self._ways(network) for name, network in candidates.items()}
        self.together.append(times)
        return {name: Timing(ms / 1e3, self.spread / 1e3) for name, ms in times.items()}

    def _ways(self, network: nn.Module) -> float:
        found = 0.0
        for name in LAYERS:
            layer = network.get_submodule(name)
            way = "fast" if isinstance(layer, StructuredLayer) else "dense"
            way = ORIGINAL if isinstance(layer, nn.Conv2d) and layer.groups == 1 else way
            if (
                way == ORIGINAL and name == SHORTCUT
            ):  # a dense 1×1 layer of any kind is a convolution
                way = "dense"
            found += self.whole.get((name, way), 0.0)
        return found


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def planned(clock: Clock, monkeypatch: pytest.MonkeyPatch, told: Listening, **how: Any) -> Planned:
    monkeypatch.setattr("seclcompress.workflows.planning.clock_of", lambda *_, **__: clock)
    asked = {"cost_model": "measured", "runtime": "onnxruntime", "objective": "time", **how}
    options = PlanOptions(config={"depth": 2}, only=("group3",), **asked)
    return plan_network("wrn10_1", options=options, input_size=(3, 32, 32), observer=told)


def ways(plan: Plan) -> dict[str, tuple[str, str | None]]:
    return {
        layer.name: (layer.execution if layer.action == "rewrite" else ORIGINAL, layer.alone)
        for layer in plan.layers
        if layer.name in LAYERS
    }


FAST = {ORIGINAL: 3.0, "dense": 2.0, "fast": 1.0}


def test_what_slows_the_network_down_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(FAST, {(FIRST, "fast"): 4.0, (SECOND, "fast"): -2.0, (SHORTCUT, "fast"): -1.0})
    told = Listening()
    plan = planned(clock, monkeypatch, told).plan
    assert ways(plan) == {
        FIRST: ("dense", "fast"),
        SECOND: ("fast", None),
        SHORTCUT: ("fast", None),
    }
    first = next(layer for layer in plan.layers if layer.name == FIRST)
    assert first.reason.endswith("; dense by the clock of the whole network, fast by its own")
    assert first.seconds == {ORIGINAL: 0.003, "dense": 0.002, "fast": 0.001}
    assert told.messages[-1] == (
        "The whole network takes 100.00 ms as it is, 100.00 all dense, 101.00 with what each layer's "
        "own clock chose, and 97.00 as planned (1 of 3 such choices undone)."
    )
    assert "Measuring the whole network (1 of 4)" in told.work
    assert told.work[-1] == "Measuring the whole network beside the original"


def test_a_second_plan_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(FAST, {(FIRST, "fast"): 4.0})
    once = planned(clock, monkeypatch, Listening()).plan
    assert clock.networks > 4
    clock.networks = 0
    assert planned(clock, monkeypatch, Listening()).plan == once
    assert clock.networks == 0


def test_unsteady_times_are_used_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(FAST, {(FIRST, "fast"): 400.0}, spread=300.0)
    plan = planned(clock, monkeypatch, Listening()).plan
    assert ways(plan)[FIRST] == ("dense", "fast")
    clock.networks = 0
    planned(clock, monkeypatch, Listening())
    assert clock.networks > 0


def test_differences_within_the_noise_undo_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(FAST, {(FIRST, "fast"): 4.0}, spread=10.0)  # of 21 rounds: ± 5.6 ms
    plan = planned(clock, monkeypatch, Listening()).plan
    assert ways(plan) == dict.fromkeys(LAYERS, ("fast", None))


def test_where_all_dense_is_faster_that_is_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each choice alone costs less than chance; all together do not."""
    clock = Clock(FAST, {(name, "fast"): 4.0 for name in LAYERS}, spread=10.0)
    plan = planned(clock, monkeypatch, Listening()).plan
    assert ways(plan) == dict.fromkeys(LAYERS, ("dense", "fast"))


def test_a_layer_that_was_kept_is_rewritten_where_that_slows_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = {ORIGINAL: 1.0, "dense": 2.0, "fast": 3.0}
    clock = Clock(slow, {(FIRST, ORIGINAL): 4.0, (SECOND, ORIGINAL): -1.0})
    found = planned(clock, monkeypatch, Listening())
    plan = found.plan
    assert ways(plan)[FIRST] == ("dense", ORIGINAL)
    assert ways(plan)[SECOND] == (ORIGINAL, None)
    first = next(layer for layer in plan.layers if layer.name == FIRST)
    assert first.reason.endswith("; dense by the clock of the whole network, original by its own")
    assert not first.slower
    again = fit_plan(plan, found.skeleton, found.trace, "a plan")
    assert again == plan
    clock.alone = FAST
    edited = plan.model_copy(
        update={
            "layers": [
                one.model_copy(update={"execution": "fast"}) if one.name == FIRST else one
                for one in plan.layers
            ]
        }
    )
    fitted = fit_plan(edited, found.skeleton, found.trace, "a plan")
    assert ways(fitted)[FIRST] == ("fast", None)


@pytest.mark.parametrize("cost_model", ["paper", "measured"])
def test_it_is_asked_only_for_a_runtime_or_time(
    cost_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(FAST, {})
    planned(
        clock,
        monkeypatch,
        Listening(),
        cost_model=cost_model,
        runtime=None,
        objective="parameters",
    )
    assert clock.networks == 0


def test_with_a_runtime_alone_executions_are_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    gains = {(SECOND, "fast"): -2.0, (SHORTCUT, "fast"): -1.0}
    clock = Clock({ORIGINAL: 0.5, "dense": 2.0, "fast": 1.0}, {(FIRST, "fast"): 4.0, **gains})
    plan = planned(clock, monkeypatch, Listening(), objective="parameters").plan
    assert ways(plan) == {
        FIRST: ("dense", "fast"),
        SECOND: ("fast", None),
        SHORTCUT: ("fast", None),
    }


names = st.integers(1, 6).map(lambda n: [frozenset({f"{i}a", f"{i}b"}) for i in range(n)])


@given(names, st.data())
def test_the_search_finds_the_best_where_groups_do_not_meet(groups, data) -> None:
    costs = {group: data.draw(st.integers(-5, 5)) for group in groups}

    def seconds(undone: frozenset[str]) -> int:
        return sum(cost for group, cost in costs.items() if group <= undone)

    found = in_network.search(groups, lambda other, now: seconds(other) < seconds(now))
    assert seconds(found) == sum(min(cost, 0) for cost in costs.values())


@given(names, st.integers(0, 1 << 30))
def test_the_search_is_never_behind_its_two_starts(groups, salt) -> None:
    def seconds(undone: frozenset[str]) -> int:
        return zlib.crc32(repr((salt, sorted(undone))).encode()) % 97

    found = in_network.search(groups, lambda other, now: seconds(other) < seconds(now))
    every = frozenset[str]().union(*groups)
    assert seconds(found) <= min(seconds(frozenset()), seconds(every))
    assert all((group <= found) or not (group & found) for group in groups)
