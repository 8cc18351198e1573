"""Plans within milliseconds, by a clock that says what it is told: predictions, and what is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Invoke
from listening import Listening
from parameter_clock import SIZE, ParameterClock, saved_weights

from seclcompress import workflows
from seclcompress.budget import Budgeted, NotReachableError
from seclcompress.errors import ExportError, UsageError
from seclcompress.networks.tasks import Detection
from seclcompress.plan import ORIGINAL, read_plan
from seclcompress.settings import PlanOptions
from seclcompress.settings.budget import Budget
from seclcompress.workflows import whole_network

TWO = PlanOptions(only=("group3.0.conv1", "group3.0.conv2"))
WHOLE = 0.050  # seconds; the layers alone take 0.018 and 0.036 and a call


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ParameterClock:
    return ParameterClock.installed(tmp_path / "cache", monkeypatch)


def planned(budget: str, **given: Any) -> Budgeted:
    asked: dict[str, Any] = {"families": ("low_rank",), "options": TWO, **SIZE, **given}
    return workflows.plan("wrn10_1", budget, runtime="onnxruntime", **asked)


def saved_seconds(found: Budgeted) -> float:
    """What the rewritten layers take less, from the plan itself."""
    pairs = [layer.seconds for layer in found.plan.rewritten]
    assert all(pair is not None for pair in pairs)
    return sum(pair[ORIGINAL] - pair["dense"] for pair in pairs if pair is not None)


def test_the_prediction_is_the_whole_less_what_layers_save(clock: ParameterClock) -> None:
    found = planned("ms=20")
    assert found.time is not None
    assert found.time.runtime == "onnxruntime"
    assert found.time.original == pytest.approx(1e3 * WHOLE)
    assert found.time.predicted == pytest.approx(1e3 * (WHOLE - saved_seconds(found)), abs=1e-5)
    assert 10 < found.time.predicted <= 20
    reach = found.reachable["nanoseconds"]
    assert reach.least < 1e6 * found.time.predicted <= reach.most == round(1e9 * WHOLE)
    assert (found.plan.cost_model, found.plan.runtime) == ("measured", "onnxruntime")
    assert found.budget == Budget(ms=20)


def test_less_time_loses_more_and_the_plan_is_taken(clock: ParameterClock, tmp_path: Path) -> None:
    losses = [planned(f"ms={ms}").loss for ms in (5, 12, 30, 45)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 1.2 * losses[-1] > 0
    found = planned("ms=12", output=tmp_path / "plan.json")
    counted = workflows.count("wrn10_1", plan=tmp_path / "plan.json", **SIZE)
    assert counted.count.columns == found.count.columns
    assert found.count.columns["auto"].parameters < 40_000


def test_all_limits_hold_together(clock: ParameterClock) -> None:
    found = planned("ms=45,parameters=40k")
    assert found.time is not None
    assert found.count.columns["auto"].parameters <= 40_000
    assert found.time.predicted < 45


def test_what_is_slower_is_not_taken_for_time(clock: ParameterClock) -> None:
    """A family that takes three times as long saves time only where it is much smaller."""
    clock.slower, clock.saves = 3.0, 0.5
    told = Listening()
    with pytest.raises(
        NotReachableError, match=r"timed meets ms=5. The fastest of 1 was predicted"
    ):
        planned("ms=5", observer=told)
    found = planned("ms=30")
    for layer in found.plan.rewritten:
        assert layer.seconds is not None
        assert layer.seconds["dense"] < layer.seconds[ORIGINAL]
    assert any("is predicted to take" in words for words in told.messages)


def test_the_other_limits_are_looked_at_before_anything_is_timed(clock: ParameterClock) -> None:
    told = Listening()
    with pytest.raises(NotReachableError, match="meets parameters=1,000"):
        planned("parameters=1k,ms=20", observer=told)
    assert clock.asked == 0
    assert "Measuring …" not in told.work
    planned("parameters=60k,ms=20", observer=told)
    (known,) = [words for words in told.messages if "is known when the layers" in words]
    assert known.startswith("The budget of parameters=60,000 can be met; whether ms=20 can")
    assert any("takes 50.00 ms for an image in onnxruntime" in words for words in told.messages)


def test_a_second_budget_times_nothing_anew(clock: ParameterClock) -> None:
    first = planned("ms=20")
    asked = clock.asked
    assert (clock.races, asked > 5) == (2, True)  # as it is, and as planned
    again = planned("ms=20")
    assert clock.asked == asked
    assert (again.plan, again.time) == (first.plan, first.time)
    planned("ms=10")
    assert clock.asked - asked == clock.races - 2 == 1, "only the other plan"


@pytest.fixture
def trained(tmp_path: Path) -> str:
    return saved_weights(tmp_path / "w.pth")


def test_trained_weights_lose_by_their_energy_within_the_time(
    clock: ParameterClock, trained: str
) -> None:
    found = planned("ms=20", weights=trained)
    assert found.source == "weights"
    assert found.time is not None
    assert found.time.predicted <= 20
    assert all("its weights' energy" in layer.reason for layer in found.plan.rewritten)


def test_layers_that_take_more_alone_than_together(clock: ParameterClock) -> None:
    """A network of 30 ms with layers of 58 ms: differences count, and the rest is negative."""
    clock.whole = 0.030
    told = Listening()
    found = planned("ms=10", observer=told)
    assert found.time is not None
    assert found.time.original == pytest.approx(30)
    assert found.time.predicted <= 10
    (words,) = [words for words in told.messages if "takes up to" in words]
    assert words.startswith("wrn10_1 takes up to 30.00 ms for an image. Its layers take more alone")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"budget": "parameters=20k", "runtime": "torch"},
            "--runtime does nothing without a limit",
        ),
        ({"budget": "ms=20", "runtime": "nothing"}, "nothing"),
    ],
)
def test_what_makes_no_sense(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        workflows.plan("wrn10_1", **given, **SIZE)


def test_who_times_nothing_takes_no_time(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ms=20: slim times nothing"):
        workflows.slim("wrn10_1", "ms=20,parameters=20k", **SIZE)
    with pytest.raises(UsageError, match="ms=20: search times nothing"):
        workflows.search("wrn10_1", data="digits", budget="ms=20", output_dir=tmp_path / "out")


@pytest.fixture
def larger(clock: ParameterClock, trained: str) -> Mapping[str, Any]:
    """What is planned: a network of 100 ms, six layers of which may change."""
    clock.whole = 0.100
    return {"weights": trained, "options": PlanOptions(only=("group2", "group3"))}


def test_a_prediction_that_is_too_low_is_planned_again(
    clock: ParameterClock, larger: Mapping[str, Any], tmp_path: Path
) -> None:
    clock.saves = 0.8
    told = Listening()
    found = planned("ms=70", output=tmp_path / "plan.json", observer=told, **larger)
    assert found.time is not None
    assert found.time.predicted < found.time.measured <= 70
    measured = 100 - clock.saves * (100 - found.time.predicted)
    assert found.time.measured == pytest.approx(measured, abs=1e-5)
    attempts = [words for words in told.messages if words.startswith("A plan was predicted")]
    assert len(attempts) == clock.races - 1 >= 2
    assert ", and takes 7" in attempts[0], "more than 70 ms"
    assert read_plan(tmp_path / "plan.json") == found.plan
    assert "as its layers' times predict." in " ".join(told.messages)


def test_a_prediction_that_is_too_high_is_planned_again(
    clock: ParameterClock, larger: Mapping[str, Any]
) -> None:
    clock.saves = 1.3
    found = planned("ms=90", **larger)
    assert found.time is not None
    assert found.time.measured <= 90 < found.time.predicted, "it loses less than was predicted"


def test_what_is_predicted_to_fail_is_timed_before_that_is_said(clock: ParameterClock) -> None:
    clock.slower = 3.0
    told = Listening()
    found = planned("ms=15", observer=told)
    assert found.time is not None
    assert found.time.measured <= 15 < 20 < found.time.predicted
    assert "The budget of ms=15 can be met." in told.messages


def test_what_saves_nothing_as_a_whole_is_refused(clock: ParameterClock) -> None:
    clock.saves = -0.1
    with pytest.raises(
        NotReachableError, match=r"meets ms=20. The fastest of 2 was predicted"
    ) as no:
        planned("ms=20")
    assert "the network as it is takes 50.00. Allow more" in str(no.value)


def test_unsteady_times_of_whole_networks_are_said(clock: ParameterClock) -> None:
    clock.spread = 1.0
    told = Listening()
    planned("ms=20", observer=told)
    words = "The times of 1 whole-network comparison varied by more than half"
    assert sum(one.startswith(words) for one in told.messages) == 2
    races = clock.races
    planned("ms=20")
    assert clock.races == 2 * races, "not remembered"


def test_a_network_that_cannot_be_timed_is_said(
    clock: ParameterClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_network, "task_of", lambda _: Detection())
    with pytest.raises(
        ExportError, match="wrn10_1 cannot be timed in onnxruntime, which a limit of"
    ):
        planned("ms=20")


def test_on_the_command_line(clock: ParameterClock, invoke: Invoke) -> None:
    given = ("plan", "wrn10_1", "--input-size", 16, "--num-classes", 10, "--families", "low_rank")
    two = ("--only", "group3.0.conv1", "--only", "group3.0.conv2")
    said = invoke(*given, *two, "--budget", "ms=20", "--runtime", "onnxruntime")
    words = " ".join(said.stdout.split())
    assert "of 20.00 ms an image, " in words
    assert (
        "As it is the network takes 50.00 ms in onnxruntime, timed in turn with the plan" in words
    )
    assert "were predicted for the plan from layers that were timed alone." in words
    record = json.loads(invoke(*given, *two, "--budget", "ms=20", "--json").stdout)
    assert record["time"]["measured"] == pytest.approx(record["time"]["predicted"], abs=1e-5)
    assert record["time"]["measured"] <= 20
    assert record["budget"]["ms"] == 20
    assert record["reachable"]["nanoseconds"]["most"] == 50_000_000
    failed = invoke(*given, *two, "--budget", "ms=0.01", code=1)
    words = " ".join(failed.stderr.split())
    assert "No plan for wrn10_1 that was timed meets ms=0.01." in words
    assert "The fastest of 1 was predicted to take" in words
    idle = invoke(*given, "--pareto", "c.csv", "--runtime", "torch", code=2)
    assert "--runtime does nothing without --against ms" in " ".join(idle.stderr.split())
