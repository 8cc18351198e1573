"""Times of whole networks: remembered, told, left out; where there are none. All times are given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from listening import Listening
from network_clock import (
    FAST,
    FIRST,
    LAYERS,
    MIXED,
    SECOND,
    SHORTCUT,
    Clock,
    planned,
    ways,
)
from torch import nn

from seclcompress import export
from seclcompress.errors import ExportError
from seclcompress.measure import default_cache
from seclcompress.networks.tasks import Detection
from seclcompress.plan import ORIGINAL, Plan
from seclcompress.report.tables import clock_notes
from seclcompress.settings import PlanOptions
from seclcompress.workflows import in_network, whole_network
from seclcompress.workflows.planning import plan_network

pytestmark = pytest.mark.usefixtures("own_cache")


def test_a_second_plan_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(FAST, MIXED)
    once = planned(clock, monkeypatch).plan
    assert clock.races == 5  # all dense, the three groups, and at the end
    clock.races = 0
    assert planned(clock, monkeypatch).plan == once
    assert clock.races == 0
    planned(clock, monkeypatch, batch=2)
    assert clock.races == 5


def test_equal_networks_are_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(FAST, {(FIRST, "fast"): 4.0}), Listening()
    plan = planned(clock, monkeypatch, told, only=(FIRST,))
    assert ways(plan.plan)[FIRST] == ("dense", "fast")
    assert (clock.races, clock.networks) == (2, 5), "alone and dense; these, and the original"
    assert "100.00 as planned (1 of 1 such choices undone)" in told.messages[-1]


def test_a_persons_code_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_network, "may_be_remembered", lambda _: False)
    clock = Clock(FAST, MIXED)
    planned(clock, monkeypatch)
    clock.races = 0
    planned(clock, monkeypatch)
    assert clock.races == 5


def test_unsteady_times_are_used_told_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(FAST, {(FIRST, "fast"): 400.0}, spread=300.0), Listening()
    plan = planned(clock, monkeypatch, told).plan
    assert ways(plan)[FIRST] == ("dense", "fast")
    assert told.messages[-1].endswith(
        " The times of 5 comparisons varied by more than half, as they do where other work runs "
        "meanwhile. They are not remembered; plan again on a quiet machine."
    )
    clock.races = 0
    planned(clock, monkeypatch)
    assert clock.races == 5


def test_a_damaged_file_of_results_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(FAST, MIXED)
    once = planned(clock, monkeypatch).plan
    path = default_cache().with_name("network_races.json")
    content = json.loads(path.read_text())
    assert len(content) == 5
    path.write_text(json.dumps({key: {} for key in content}))
    clock.races = 0
    assert planned(clock, monkeypatch).plan == once
    assert clock.races == 5


@pytest.mark.parametrize(
    "how",
    [
        {"cost_model": "paper", "runtime": None, "objective": "parameters"},
        {"runtime": None, "objective": "parameters"},
        {"whole_network": False},
    ],
)
def test_it_is_asked_only_for_a_runtime_or_time(how, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(FAST, MIXED)
    planned(clock, monkeypatch, **how)
    assert clock.races == 0


def test_all_dense_needs_no_confirmation(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock({ORIGINAL: 3.0, "dense": 1.0, "fast": 2.0}, {})
    assert ways(planned(clock, monkeypatch).plan) == dict.fromkeys(LAYERS, ("dense", None))
    assert clock.races == 0


def test_a_network_that_cannot_be_timed_whole_is_planned_by_its_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Refusing(Clock):
        def time(self, candidates, x):
            if x.shape[1:] == (3, 32, 32):
                raise ExportError("A layer (now) cannot be timed") from ExportError(
                    "no such operator.\n…"
                )
            return super().time(candidates, x)

    told = Listening()
    plan = planned(Refusing(FAST, MIXED), monkeypatch, told).plan
    assert ways(plan) == dict.fromkeys(LAYERS, ("fast", None))
    where = export.get("onnx").version()
    assert told.messages[-1] == (
        f"The plan goes by each layer's own clock: the whole network cannot be timed in {where}: no "
        "such operator."
    )


def test_a_network_with_other_arguments_is_planned_by_its_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(whole_network, "task_of", lambda _: Detection())
    told = Listening()
    plan = planned(Clock(FAST, MIXED), monkeypatch, told).plan
    assert ways(plan) == dict.fromkeys(LAYERS, ("fast", None))
    assert told.messages[-1].endswith(": it takes other arguments than one tensor of images.")


def test_equal_layers_with_other_families_are_not_turned_over_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = {ORIGINAL: 1.0, "dense": 2.0, "fast": 3.0}
    plan = planned(Clock(kept, {}), monkeypatch, whole_network=False).plan

    def changed(**update: object) -> Plan:
        """The plan with layers of one shape, the second of them changed."""
        layers = [
            one.model_copy(
                update={"layer": "one", "calls": [], **(update if one.name == SECOND else {})}
            )
            for one in plan.layers
        ]
        return plan.model_copy(update={"layers": layers})

    def names(rewritten: Plan) -> list[tuple[str, ...]]:
        return [group.names for group in in_network.groups(changed(), rewritten)]

    assert names(changed()) == [LAYERS]
    apart = [(SECOND,), (FIRST, SHORTCUT)]
    assert names(changed(substitution="separable")) == apart
    assert names(changed(config={"depth": 7})) == apart


def test_a_network_that_its_owner_keeps_is_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("kept_net.py").write_text(
        "from torch import nn\n"
        "NET = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 9, 3))\n"
    )
    clock = Clock(FAST, {}, named=("1",))
    monkeypatch.setattr("seclcompress.workflows.planning.clock_of", lambda *_, **__: clock)
    options = PlanOptions(cost_model="measured", runtime="onnxruntime", config={"depth": 2})
    told = Listening()
    found = plan_network("kept_net:NET", options=options, input_size=(3, 32, 32), observer=told)
    assert clock.races == 2
    assert [type(layer) for layer in sys.modules["kept_net"].NET] == [nn.Conv2d] * 3
    assert sys.modules["kept_net"].NET.training
    assert found.plan.rewritten[0].name == "1"
    assert "(0 of 1 such choices undone)" in told.messages[-1]


def test_what_the_network_decided_is_said_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = {ORIGINAL: 0.5, "dense": 2.0, "fast": 1.0}
    cases = (("parameters", slow, "2 of them rewritten, though slower there"), ("time", FAST, ""))
    for batch, (objective, alone, others) in enumerate(cases, start=1):
        clock = Clock(alone, MIXED)
        notes = clock_notes(planned(clock, monkeypatch, objective=objective, batch=batch).plan)
        assert notes[-1] == "1 of them as the whole network is faster, and not as they are alone."
        assert others in " ".join(notes[1:-1])
        assert len(notes) == (3 if others else 2)
