"""Skeleton, trace and plan through Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from clocks import TellingClock
from listening import Listening

import seclcompress
from seclcompress import export, kernel
from seclcompress.errors import ArtefactError, PlanError, UsageError
from seclcompress.measure import Stopwatch, default_cache
from seclcompress.settings import Assignment, PlanOptions
from seclcompress.timing import Timing
from seclcompress.workflows import convert, plan_network

SHALLOW = PlanOptions(config={"depth": 2})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A converted network: depth 2, `group3` kept."""
    options = PlanOptions(config={"depth": 2}, keep=("group3",))
    convert("wrn10_1", tmp_path / "student", options=options)
    return tmp_path / "student"


def depths(planned: Any) -> set[int]:
    return {layer.config["depth"] for layer in planned.plan.rewritten}


def test_a_name_and_a_located_network_give_the_same_plan() -> None:
    one = plan_network("wrn10_1", options=SHALLOW)
    located = seclcompress.locate("wrn10_1")
    two = plan_network(located, options=SHALLOW)
    assert one.plan == two.plan
    assert two.located is located
    assert one.trace.input_size == (3, 32, 32)
    assert not one.saved
    assert all(p.is_meta for p in one.skeleton.parameters() if p.numel() > 1000)


def test_it_is_what_the_steps_give() -> None:
    source = seclcompress.locate("wrn10_1", num_classes=7, input_size=(3, 16, 16))
    network, _ = source.load()
    trace = seclcompress.trace_network(network, source.input_size)
    plan = seclcompress.make_plan(network, trace, SHALLOW)
    found = plan_network("wrn10_1", options=SHALLOW, num_classes=7, input_size=(3, 16, 16))
    assert found.plan == plan
    assert found.options == SHALLOW
    columns = seclcompress.count_network(network, trace, plan).columns
    student = seclcompress.rewrite_network(network, plan)
    assert sum(p.numel() for p in student.parameters()) == columns["auto"].parameters


def test_a_folders_own_plan_unless_something_is_asked(folder: Path) -> None:
    own = plan_network(folder)
    assert (own.saved, depths(own), own.options) == (True, {2}, None)
    assert own.plan.layers[-1].reason == "kept by --keep group3"
    asked = plan_network(folder, options=PlanOptions(config={"depth": 3}))
    assert (asked.saved, depths(asked)) == (False, {3})
    assert asked.plan.layers[-1].action == "rewrite"
    given = plan_network(folder, plan=plan_network("wrn10_1").plan)
    assert (given.saved, depths(given), given.options) == (False, {12}, None)


def test_what_is_asked_where_nothing_is(folder: Path) -> None:
    assert depths(plan_network("wrn10_1")) == {12}
    assert depths(plan_network("wrn10_1", default=PlanOptions(config={"depth": 5}))) == {5}
    assert depths(plan_network(folder, default=PlanOptions(config={"depth": 5}))) == {2}


def test_a_folder_at_another_size(folder: Path) -> None:
    found = plan_network(folder, input_size=(3, 16, 16))
    assert found.saved
    assert found.plan.input_size == (3, 16, 16)


def test_a_plan_as_data_or_as_a_file(tmp_path: Path) -> None:
    plan = plan_network("wrn10_1", options=SHALLOW).plan
    plan.layers[1].action = "keep"
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    as_data, as_file = (plan_network("wrn10_1", plan=given).plan for given in (plan, path))
    assert as_data == as_file
    assert as_data.layers[1].reason == "kept by the plan"


def test_a_plan_for_another_network_says_where_it_comes_from(tmp_path: Path) -> None:
    plan = plan_network("wrn10_1").plan
    with pytest.raises(PlanError, match="^The plan is not a plan for this network"):
        plan_network("wrn16_1", plan=plan)
    (tmp_path / "plan.json").write_text(plan.to_json())
    with pytest.raises(PlanError, match=r"plan\.json is not a plan for this network"):
        plan_network("wrn16_1", plan=tmp_path / "plan.json")


def test_a_path_is_a_folder_whatever_networks_are_called(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    folder.rename("wrn10_1")
    found = plan_network(Path("wrn10_1"))
    assert found.saved
    assert found.located.label == "wrn10_1"
    with pytest.raises(ArtefactError, match=r"There is no folder resnet18"):
        plan_network(Path("resnet18"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"substitution": "acdcc"}, "Did you mean acdc"),
        (
            {"substitution": "separable", "config": {"depth": 3}},
            "^separable takes no option depth. It takes: none.$",
        ),
        ({"config": {"width": 3}}, "acdc takes no option width. It takes: depth, extra_riffle"),
        ({"config": {"depth": 0}}, "depth: Input should be greater than or equal to 1"),
        (
            {"assign": (Assignment(pattern="fc", substitution="separable", config={"depth": 1}),)},
            "^fc=separable: separable takes no option depth",
        ),
        ({"channels_last": True}, "add --cost-model measured"),
        ({"runtime": "torch"}, "^--runtime is about what is measured: add --cost-model measured"),
        ({"objective": "time"}, "^--objective time is about what is measured: add --cost-model"),
        (
            {"cost_model": "measured", "runtime": "openvino", "channels_last": True},
            "^--channels-last is a layout of torch's, and --runtime openvino chooses its own",
        ),
        (
            {"cost_model": "measured", "runtime": "fortran"},
            "^Unknown runtime 'fortran'. There are: ",
        ),
    ],
)
def test_options_are_checked_before_the_network_is_found(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        plan_network("no network", options=PlanOptions(**options))


def test_options_beside_a_plan() -> None:
    options = PlanOptions(stem=True, config={"depth": 1})
    with pytest.raises(UsageError, match="decided already what config, stem would"):
        plan_network("wrn10_1", options=options, plan=Path("plan.json"))


def test_what_a_located_network_has_already() -> None:
    located = seclcompress.locate("wrn10_1")
    words = "wrn10_1 is located already: give num_classes, input_size to `locate`"
    with pytest.raises(UsageError, match=words):
        plan_network(located, num_classes=3, input_size=(3, 8, 8))


def test_a_plan_that_rewrites_nothing() -> None:
    keeps_all = PlanOptions(keep=("*",))
    with pytest.raises(PlanError, match="rewrites none of the 9 convolutions"):
        plan_network("wrn10_1", options=keeps_all)
    assert not plan_network("wrn10_1", options=keeps_all, may_be_empty=True).plan.rewritten


def test_the_observer_is_told_what_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measure(self: Stopwatch, *of: object) -> dict[str, Timing]:
        fast = 1.0 if self.clock.channels_last and self.batch == 3 else 3.0
        return {"dense": Timing(2.0, 0.0), "fast": Timing(fast, 0.0)}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(Stopwatch, "_measure", measure)
    options = PlanOptions(cost_model="measured", channels_last=True, only=("group3",))
    told = Listening()
    found = plan_network("wrn10_1", options=options, batch=3, observer=told)
    assert {layer.execution for layer in found.plan.rewritten} == {"fast"}
    assert told.work[0] == "Measuring …"
    assert told.work[1].startswith("Measuring acdc for Conv2d(32, 64")
    assert told.messages == [
        f"Measured 3 layer shapes in channels_last; the others were known ({default_cache()}). "
        f"On this machine: {kernel.description()}."
    ]
    again = Listening()
    options = options.model_copy(update={"channels_last": False})
    plan_network("wrn10_1", options=options, observer=again)
    assert again.messages[0].startswith("Measured 3 layer shapes; the others")


def test_the_observer_is_told_of_a_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    clock = TellingClock({"original": 2.0, "dense": 3.0}, spread=1.1)
    monkeypatch.setattr("seclcompress.workflows.planning.clock_of", lambda *_, **how: clock)
    options = PlanOptions(cost_model="measured", runtime="onnxruntime", only=("group3",))
    told = Listening()
    found = plan_network("wrn10_1", options=options, observer=told)
    assert [layer.slower for layer in found.plan.rewritten] == [True] * 3
    assert [words[-8:] for words in told.work[1:]] == ["(1 of 3)", "(2 of 3)", "(3 of 3)"]
    version = export.get("onnx").version()
    assert told.messages == [
        f"Measured 3 layer shapes in {version}; the others were known ({default_cache()}). "
        f"On this machine: threads: {torch.get_num_threads()}.",
        "The times of 3 layer shapes varied by more than half, as they do where other work runs "
        "meanwhile. They are not remembered; plan again on a quiet machine.",
    ]
    assert len(clock.asked) == 3
    kept = options.model_copy(update={"objective": "time", "whole_network": False})
    plan = plan_network("wrn10_1", options=kept, may_be_empty=True).plan
    assert plan.rewritten == []
    assert len(plan.timed) == 3


def test_an_assumed_input_size_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sizeless_net.py").write_text(
        "from torch import nn\nNET = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3))\n"
    )
    said = "does not say its input size: 3x224x224 is assumed. --input-size changes it."
    words = f"sizeless_net:NET {said}"
    for size, told in (((3, 32, 32), []), (None, [words])):
        listening = Listening()
        plan_network("sizeless_net:NET", input_size=size, may_be_empty=True, observer=listening)
        assert listening.messages == told
    listening = Listening()
    plan_network("resnet18", observer=listening)
    assert listening.messages == []
