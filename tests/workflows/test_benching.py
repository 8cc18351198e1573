"""Timing a whole network through Python."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from clocks import TellingClock
from listening import Listening

from seclcompress import kernel
from seclcompress.errors import UsageError
from seclcompress.measure import Stopwatch
from seclcompress.settings import PlanOptions
from seclcompress.timing import Timing
from seclcompress.workflows import bench, convert

SHALLOW = PlanOptions(config={"depth": 1}, only=("group3",))


@pytest.mark.usefixtures("restore_threads")
def test_figures_come_back_and_the_threads_as_well() -> None:
    torch.set_num_threads(2)
    told = Listening()
    found = bench(
        "wrn10_1", options=SHALLOW, input_size=(3, 8, 8), threads=1, rounds=2, observer=told
    )
    assert torch.get_num_threads() == 2
    assert "1 threads" in found.machine
    assert kernel.description() in found.machine
    assert list(found.measured) == ["original", "separable", "dense", "fast", "auto"]
    assert all(measured.timing.median > 0 for measured in found.measured.values())
    assert found.located.input_size == (3, 8, 8)
    assert list(found.plans) == ["NCHW", "NHWC"]
    assert (
        found.plans["NCHW"] is found.plans["NHWC"]
    )  # executions chosen by Mult-Adds do not depend on the layout
    assert told.work == ["Timing all variants in turn …"]
    assert told.messages == []


def test_the_clock_decides_where_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measure(self: Stopwatch, *of: object) -> dict[str, Timing]:
        return {
            "dense": Timing(2.0, 0.0),
            "fast": Timing(1.0 if self.clock.channels_last else 3.0, 0.0),
        }

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(Stopwatch, "_measure", measure)
    told = Listening()
    found = bench("wrn10_1", input_size=(3, 8, 8), rounds=2, observer=told)
    executions = {
        layout: {layer.execution for layer in plan.rewritten}
        for layout, plan in found.plans.items()
    }
    assert executions == {"NCHW": {"dense"}, "NHWC": {"fast"}}
    assert ["in channels_last" in words for words in told.messages] == [False, True]


def test_a_plan_for_time_goes_by_the_runtime_that_is_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked: list[str | None] = []
    clock = TellingClock({"original": 2.0, "dense": 3.0})

    def clock_of(runtime: str | None, **how: object) -> TellingClock:
        asked.append(runtime)
        return clock

    monkeypatch.setattr("seclcompress.workflows.planning.clock_of", clock_of)
    options = PlanOptions(cost_model="measured", objective="time", only=("group3.0.conv2",))
    how = {"input_size": (3, 8, 8), "rounds": 2}
    found = bench("wrn10_1", options=options, runtimes=["onnxruntime"], **how)
    assert set(asked) == {"onnxruntime"}
    sizes = [size for _, size in clock.asked]  # both layouts are the runtime's own affair
    assert sizes == [(1, 64, 2, 2), (1, 3, 8, 8)], "a layer, and the network"
    assert found.runtimes is not None
    assert list(found.runtimes.timings["onnxruntime"]) == ["original"], "it is kept"
    with pytest.raises(UsageError, match="one clock, and torch, onnxruntime are 2 runtimes"):
        bench("wrn10_1", options=options, runtimes=["torch", "onnxruntime"], **how)
    # In torch, each layout has its own times, and its own plan.
    asked.clear()
    found = bench("wrn10_1", options=options, **how)
    assert set(asked) == {None}
    assert list(found.measured) == ["original"]
    assert found.plans["NCHW"] is not found.plans["NHWC"]


def test_a_folder_runs_by_its_own_plan(tmp_path: Path) -> None:
    convert("wrn10_1", tmp_path / "out", options=SHALLOW, input_size=(3, 8, 8))
    told = Listening()
    found = bench(tmp_path / "out", rounds=2, observer=told)
    assert told.messages == []
    assert len(found.plans["NCHW"].rewritten) == 3
    assert found.plans["NCHW"] is found.plans["NHWC"]


def test_a_network_that_keeps_everything() -> None:
    found = bench("wrn10_1", options=PlanOptions(keep=("*",)), input_size=(3, 8, 8), rounds=2)
    assert list(found.measured) == ["original"]


def test_what_is_no_image() -> None:
    with pytest.raises(UsageError, match=r"bench runs images, .* got \(3, 8\)"):
        bench("wrn10_1", input_size=(3, 8))


@pytest.mark.parametrize(
    "number",
    [{"batch_size": 0}, {"threads": 0}, {"rounds": 1}],
    ids=lambda given: next(iter(given)),
)
def test_numbers_that_are_too_small(number: dict[str, int]) -> None:
    [name] = number
    with pytest.raises(UsageError, match=f"bench: {name} is .*; it must be at least"):
        bench("wrn10_1", **number)
