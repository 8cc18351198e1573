"""`--runtime` and `--objective` on the command line: what is printed, written, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clocks import TellingClock
from conftest import Invoke
from torch import nn

from seclcompress.export.race import Runtimes
from seclcompress.timing import Timing

FLAGS = ("wrn10_1", "--depth", 2, "--cost-model", "measured", "--runtime", "onnxruntime")
SLOWER = "slower in onnxruntime: dense takes 0.30 ms, the original 0.20"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> TellingClock:
    """A clock by which every rewrite of a 1×1 convolution is slower."""

    class Clock(TellingClock):
        def time(self, candidates, x):
            if "original" in candidates:  # a layer's, and not of whole networks
                large = candidates["original"].kernel_size != (1, 1)
                self.times = {"original": 0.9 if large else 0.2, "dense": 0.3}
            return super().time(candidates, x)

    found = Clock({}, runtime="onnxruntime")
    monkeypatch.setattr("seclcompress.workflows.planning.clock_of", lambda *_, **how: found)
    return found


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.usefixtures("clock")
def test_count_says_what_becomes_slower(invoke: Invoke) -> None:
    shown = words(invoke("count", *FLAGS, "--per-layer").stdout)
    assert (
        "8 of 9 convolutions rewritten; chosen by the measured cost model in onnxruntime: 8"
        in shown
    )
    assert (
        "8 convolutions timed one by one in onnxruntime: 5.80 ms as they are, 2.40 ms as planned."
        in (shown)
    )
    assert "2 of them rewritten, though slower there; --objective time keeps them." in shown
    content = json.loads(invoke("count", *FLAGS, "--json").stdout)
    assert (content["runtime"], content["objective"]) == ("onnxruntime", "parameters")
    rows = {row["name"]: row for row in content["rows"]}
    assert rows["group2.0.shortcut"]["seconds"] == {"original": 0.0002, "dense": 0.0003}
    assert rows["group2.0.shortcut"]["reason"].endswith(f"; {SLOWER}")
    assert rows["conv1"]["seconds"] is None


@pytest.mark.usefixtures("clock")
def test_count_keeps_it_for_time(invoke: Invoke) -> None:
    shown = words(invoke("count", *FLAGS, "--objective", "time").stdout)
    assert "6 of 9 convolutions rewritten" in shown
    assert "5.80 ms as they are, 2.20 ms as planned." in shown
    assert "2 of them kept, because they would be slower there (--objective time)." in shown
    content = json.loads(invoke("count", *FLAGS, "--objective", "time", "--json").stdout)
    rows = {row["name"]: row for row in content["rows"]}
    assert content["objective"] == "time"
    assert (rows["group2.0.shortcut"]["action"], rows["group2.0.shortcut"]["reason"]) == (
        "keep",
        SLOWER,
    )


def test_the_whole_network_is_timed_unless_told_otherwise(
    invoke: Invoke, clock: TellingClock
) -> None:
    invoke("count", *FLAGS, "--objective", "time", "--no-whole-network")
    assert {size[1:] for _, size in clock.asked if size[1] == 3} == set()
    shown = words(invoke("count", *FLAGS, "--objective", "time").stderr)
    assert "20.00 ms as it is, 20.00 all dense" in shown
    assert "(0 of 2 such choices undone)" in shown
    assert (1, 3, 32, 32) in [size for _, size in clock.asked]


def test_a_plan_goes_there_and_back(invoke: Invoke, clock: TellingClock, tmp_path: Path) -> None:
    how = ("--objective", "time", "--write-plan", "plan.json", "-o", "out")
    result = invoke("convert", *FLAGS, *how)
    assert SLOWER in words(result.stdout)
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert (plan["runtime"], plan["objective"]) == ("onnxruntime", "time")
    times = len(clock.asked)
    again = ("--plan", "plan.json", "--write-plan", "again.json", "-o", "other")
    result = invoke("convert", "wrn10_1", *again)
    assert SLOWER in words(result.stdout)
    assert json.loads((tmp_path / "again.json").read_text()) == plan
    # The folder has its plan, and says what was measured, without measuring.
    shown = words(invoke("count", "out").stdout)
    assert "2 of them kept, because they would be slower there (--objective time)." in shown
    assert len(clock.asked) == times


@pytest.mark.usefixtures("clock")
def test_survey_says_it_in_a_line(invoke: Invoke) -> None:
    flags = ("resnet18", *FLAGS[1:])
    line = invoke("survey", *flags).stdout.splitlines()[-1]
    assert line.endswith("; rewritten, though slower in onnxruntime (×3)")
    line = invoke("survey", *flags, "--objective", "time", "--csv").stdout.splitlines()[-1]
    assert "slower in onnxruntime (×3)" in line
    assert "rewritten, though" not in line
    record = json.loads(invoke("survey", *flags, "--json").stdout)
    assert (record["rewritten"], record["slower"]) == (19, {"onnxruntime": 3})


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--runtime onnxruntime",
            "--runtime is about what is measured: add --cost-model measured.",
        ),
        ("--objective time", "--objective time is about what is measured: add --cost-model"),
        ("--cost-model measured --objective speed", "Invalid value for '--objective'"),
        (
            "--cost-model measured --runtime pascal",
            "Unknown runtime 'pascal'. There are: executorch, litert, onnxruntime, openvino, torch.",
        ),
        ("--cost-model measured --runtime none", "Unknown runtime 'none'"),
        ("--cost-model measured --no-whole-network", "--no-whole-network"),
        (
            "--cost-model measured --runtime onnxruntime --channels-last",
            "--channels-last is a layout of torch's, and --runtime onnxruntime chooses its own",
        ),
    ],
)
@pytest.mark.parametrize(
    "command", ["count wrn10_1", "convert wrn10_1 --dry-run", "survey resnet18"]
)
def test_refused_in_words(invoke: Invoke, command: str, flags: str, said: str) -> None:
    result = invoke(*command.split(), *flags.split(), code=2)
    assert said in words(result.stderr.replace("│", " "))


def test_packages_that_are_not_there(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seclcompress.extras.find_spec", lambda name: None)
    result = invoke("count", *FLAGS, code=2)
    said = "--runtime onnxruntime needs onnx, onnxruntime, onnxscript, which are not installed"
    assert said in words(result.stderr)


def test_bench_has_one_clock(invoke: Invoke) -> None:
    flags = ("--objective", "time", "--runtime", "torch,onnxruntime")
    result = invoke("bench", "wrn10_1", *flags, code=2)
    assert "a plan for time goes by one clock" in words(result.stderr)


def test_bench_in_a_runtime_says_what_was_kept(
    invoke: Invoke, clock: TellingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    raced: dict[str, Any] = {}

    def race(networks, runtimes, size, **how) -> Runtimes:
        raced.update(networks)
        timings = {runtime: dict.fromkeys(networks, Timing(1.0, 0.0)) for runtime in runtimes}
        return Runtimes(dict.fromkeys(runtimes, "1"), timings)

    monkeypatch.setattr("seclcompress.workflows.benching.race", race)
    flags = ("--objective", "time", "--runtime", "onnxruntime", "--depth", 2)
    shown = words(invoke("bench", "wrn10_1", *flags).stdout)
    assert "8 convolutions timed one by one in onnxruntime: 5.80 ms as they are, 2.20 ms" in shown
    assert "2 of them kept, because they would be slower there (--objective time)." in shown
    assert len([1 for _, size in clock.asked if size[1] != 3]) == 7
    assert isinstance(raced["dense"].get_submodule("group2.0.shortcut"), nn.Conv2d)
    assert isinstance(raced["dense"].get_submodule("group2.0.conv1"), nn.Sequential)
