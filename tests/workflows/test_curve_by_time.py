"""The curve of plans against time: whole networks are timed; what a faster plan beats is no point."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Invoke
from listening import Listening
from parameter_clock import SIZE, ParameterClock, saved_weights

from seclcompress import workflows
from seclcompress.budget import Curve
from seclcompress.errors import UsageError
from seclcompress.settings import PlanOptions

SIX = PlanOptions(only=("group2", "group3"))


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ParameterClock:
    made = ParameterClock.installed(tmp_path / "cache", monkeypatch)
    made.whole = 0.100
    return made


@pytest.fixture
def weights(tmp_path: Path) -> str:
    return saved_weights(tmp_path / "w.pth")


def drawn(weights: str, output: Path | None = None, **given: Any) -> Curve:
    return workflows.pareto(
        "wrn10_1",
        output,
        quantity="nanoseconds",
        families=("low_rank",),
        options=SIX,
        runtime="onnxruntime",
        weights=weights,
        **SIZE,
        **given,
    )


def test_points_are_whole_networks(clock: ParameterClock, weights: str, tmp_path: Path) -> None:
    clock.saves = 0.5
    curve = drawn(weights, tmp_path / "curve.csv")
    assert (curve.quantity, curve.runtime) == ("nanoseconds", "onnxruntime")
    assert len(curve.points) > 5
    for faster, slower in itertools.pairwise(curve.points):
        assert faster.amount("nanoseconds") < slower.amount("nanoseconds")
        assert faster.loss > slower.loss
    for point in curve.points:
        assert point.predicted is not None
        measured = 100 - clock.saves * (100 - point.predicted)
        assert point.milliseconds == pytest.approx(measured, abs=1e-4)
        assert 1e6 * point.predicted <= point.limit + 1
    assert (curve.points[-1].loss, curve.points[-1].milliseconds) == (0, pytest.approx(100))
    rows = list(csv.DictReader((tmp_path / "curve.csv").read_text().splitlines()))
    assert [float(row["milliseconds"]) for row in rows] == pytest.approx(
        [point.milliseconds for point in curve.points], abs=1e-4
    )
    assert float(rows[0]["predicted"]) < float(rows[0]["milliseconds"])


def test_a_plan_that_a_faster_one_beats_is_no_point(clock: ParameterClock, weights: str) -> None:
    clock.saves = -0.5  # what is smaller takes longer
    (only,) = drawn(weights).points
    assert (only.loss, only.families) == (0, {})
    assert only.milliseconds == pytest.approx(100)


def test_a_second_curve_times_nothing(clock: ParameterClock, weights: str) -> None:
    told = Listening()
    first = drawn(weights, observer=told)
    asked = clock.asked
    assert clock.races >= len(first.points)
    assert drawn(weights) == first
    assert clock.asked == asked
    assert not any(words.startswith("A plan was predicted") for words in told.messages)


def test_a_point_is_a_plan_of_its_time(clock: ParameterClock, weights: str) -> None:
    curve = drawn(weights)
    middle = curve.points[len(curve.points) // 2]
    assert middle.milliseconds is not None
    found = workflows.plan(
        "wrn10_1",
        f"ms={middle.milliseconds + 0.001:.4f}",
        families=("low_rank",),
        options=SIX,
        runtime="onnxruntime",
        weights=weights,
        **SIZE,
    )
    assert found.count.columns["auto"].parameters == middle.parameters


@pytest.mark.parametrize("ending", ["csv", "png", "html"])
def test_on_the_command_line(
    clock: ParameterClock, weights: str, tmp_path: Path, invoke: Invoke, ending: str
) -> None:
    file = tmp_path / f"curve.{ending}"
    given = ("plan", "wrn10_1", "--input-size", 16, "--num-classes", 10, "--families", "low_rank")
    few = ("--only", "group3", "--weights", weights, "--against", "ms", "--runtime", "onnxruntime")
    said = invoke(*given, *few, "--pareto", file).stdout
    assert said.split()[:4] == ["parameters", "Mult-Adds", "ms", "lost"]
    words = " ".join(said.split())
    assert "Milliseconds are those of whole networks for one image in onnxruntime on this" in words
    assert "seclcompress plan --budget ms=… --runtime onnxruntime -o FILE" in words
    record = json.loads(invoke(*given, *few, "--pareto", file, "--overwrite", "--json").stdout)
    assert record["runtime"] == "onnxruntime"
    if ending == "html":
        page = file.read_text(encoding="utf-8")
        assert "ms an image in onnxruntime" in page
        assert f"{record['points'][0]['milliseconds']:.2f} ms" in page


def test_a_runtime_without_time_is_refused(weights: str) -> None:
    with pytest.raises(UsageError, match="--runtime does nothing without --against ms"):
        workflows.pareto("wrn10_1", runtime="onnxruntime", weights=weights, **SIZE)
