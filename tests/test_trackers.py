"""Trackers: what each is given, going on after an interruption, failures, and that nothing is sent.

MLflow and wandb are stand-ins here, with the signatures of mlflow 3.17 and wandb 0.31 that we call;
`test_trackers_for_real.py` writes for the real ones.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from conftest import Invoke
from runs import Listening

from seclcompress import artefact, trackers, workflows
from seclcompress.errors import UsageError
from seclcompress.settings.training import INCIDENTAL, TrainingSettings
from seclcompress.trackers import STATE, Run, Tracking, tracking
from seclcompress.trackers.contract import Ending, Reading, Started
from seclcompress.workflows.training import InterruptedRunError, train

QUICK = {"epochs": 2, "train_images": 100, "batch_size": 25}


class Keeping:
    """A tracker that keeps what it is given; it fails at `broken`."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.runs: list[Run] = []
        self.numbers: list[int] = []
        self.epochs: list[tuple[int, int, dict[str, float]]] = []
        self.ended: list[tuple[Ending, dict[str, float]]] = []

    def start(self, run: Run) -> Started:
        self._fail("start")
        self.runs.append(run)
        return Started(run.earlier or "first", "Kept.")

    def steps(self, readings: list[Reading]) -> None:
        self._fail("steps")
        self.numbers += [reading.number for reading in readings]

    def epoch(self, epoch: int, step: int, figures: Any) -> None:
        self._fail("epoch")
        self.epochs.append((epoch, step, dict(figures)))

    def end(self, ending: Ending, metrics: Any) -> None:
        self._fail("end")
        self.ended.append((ending, dict(metrics)))

    def _fail(self, where: str) -> None:
        if where == self.broken:
            raise ConnectionError(f"no answer\nin {where}")


Keep = Callable[..., Keeping]


@pytest.fixture
def keep(monkeypatch: pytest.MonkeyPatch) -> Keep:
    """Makes trackers that stand in for mlflow, or for wandb as well."""

    def make(name: str = "mlflow", broken: str = "") -> Keeping:
        kept = Keeping(broken)
        monkeypatch.setattr(tracking, "KINDS", {**tracking.KINDS, name: (lambda: kept, ())})
        return kept

    return make


def run(folder: Path, observer: Listening | None = None, **more: Any) -> Any:
    track = more.pop("track", ("mlflow",))
    settings = TrainingSettings(**QUICK, track=track)
    return train(
        "wrn10_1", data="digits", output_dir=folder, settings=settings, observer=observer, **more
    )


def test_a_tracker_is_given_the_whole_run(keep: Keep, tmp_path: Path) -> None:
    kept, observer = keep(), Listening()
    result = run(tmp_path / "out", observer)
    [begun] = kept.runs
    assert (begun.name, begun.finished, begun.earlier) == ("out", 0, None)
    assert begun.beside == tmp_path
    assert begun.settings["network"] == "wrn10_1"
    assert (begun.settings["lr"], begun.settings["batch_size"]) == (0.1, 25)
    assert not {*INCIDENTAL, "alpha"} & begun.settings.keys()
    assert kept.numbers == list(range(1, 9))
    assert [(epoch, step) for epoch, step, _ in kept.epochs] == [(1, 4), (2, 8)]
    assert kept.epochs[1][2]["accuracy/top-1"] == result.history[1]["accuracy"]
    assert kept.epochs[1][2]["loss/train"] == result.history[1]["train_loss"]
    assert kept.ended == [("finished", result.metrics)]
    assert "Kept." in observer.words
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not (tmp_path / "out" / STATE).exists()


def test_a_resumed_run_goes_on_in_the_same_tracked_run(keep: Keep, tmp_path: Path) -> None:
    """Steps that a tracker has are not given to it again, and none is left out."""
    kept, stopping = keep(), Listening(stop_after=6)  # the checkpoint is of the first epoch, step 4
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", stopping)
    assert kept.ended == [("interrupted", {})]
    given = list(kept.numbers)
    assert given in ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6])
    state = json.loads((tmp_path / "out.partial" / STATE).read_bytes())
    assert state == {"mlflow": {"run": "first", "step": given[-1]}}
    again = keep()
    run(tmp_path / "out", resume=True)
    [begun] = again.runs
    assert (begun.earlier, begun.finished) == ("first", 4)
    assert given + again.numbers == list(range(1, 9))
    assert [epoch for epoch, _, _ in kept.epochs + again.epochs] == [1, 2]


def test_a_run_that_is_stopped_may_be_gone_on_with(keep: Keep, tmp_path: Path) -> None:
    kept = keep()
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "out", time_limit=0)
    assert kept.ended == [("interrupted", {})]


@pytest.mark.parametrize("broken", ["start", "steps", "epoch", "end"])
def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(
    keep: Keep, tmp_path: Path, broken: str
) -> None:
    other = keep("wandb")
    keep("mlflow", broken=broken)
    observer = Listening()
    result = run(tmp_path / "out", observer, track=("mlflow", "wandb"))
    assert len(result.history) == 2
    assert [words for words in observer.words if "failed" in words] == [
        "--track mlflow failed, and the run goes on without it (ConnectionError: no answer)."
    ]
    assert other.numbers == list(range(1, 9))
    assert other.ended[0][0] == "finished"


def test_an_error_of_the_run_is_a_failed_run(keep: Keep, tmp_path: Path) -> None:
    kept = keep()
    told = Tracking(["mlflow"], Run("out", {}, tmp_path, tmp_path), InterruptedRunError, str)
    told.start(1, 4, 0)
    told.__exit__(ValueError, ValueError("broken"), None)
    assert kept.ended == [("failed", {})]


def test_a_damaged_state_begins_a_new_tracked_run(keep: Keep, tmp_path: Path) -> None:
    (tmp_path / STATE).write_text('{"mlflow": {"run": "first"}}')
    kept = keep()
    with Tracking(["mlflow"], Run("out", {}, tmp_path, tmp_path), InterruptedRunError, str) as told:
        told.start(2, 4, 4)
        told.step(2, 25, 1.0, 0.1)
    assert kept.runs[0].earlier is None
    assert kept.numbers == [5]


def test_tracking_is_no_part_of_a_run_s_identity(keep: Keep, tmp_path: Path) -> None:
    keep()
    run(tmp_path / "one", track=())
    run(tmp_path / "two")
    for name in ("model.safetensors", "best.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "three", track=(), time_limit=0)
    assert len(run(tmp_path / "three", resume=True).history) == 2


def test_tensorboard_is_short_for_one_of_them(tmp_path: Path) -> None:
    assert TrainingSettings(tensorboard=True).trackers == ("tensorboard",)
    both = TrainingSettings(tensorboard=True, track="wandb, tensorboard")
    assert both.trackers == ("tensorboard", "wandb")
    run(tmp_path / "out", track=("tensorboard",))
    assert len(list((tmp_path / "out").glob("events.out.tfevents.*"))) == 1
    names = artefact.read_config(tmp_path / "out").training["track"]
    assert names == ["tensorboard"]


def test_a_missing_package_is_told_before_any_work(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seclcompress.extras.find_spec", lambda name: None)
    result = invoke("train", "wrn10_1", "--data", "digits", "--track", "wandb", "-o", "out", code=2)
    words = "--track wandb needs wandb, which is not installed: pip install 'seclcompress[wandb]'"
    assert words in " ".join(result.stderr.split())
    with pytest.raises(UsageError, match="--track mlflow needs alembic, mlflow, sqlalchemy|mlflow"):
        trackers.check_trackers(["mlflow"])
    result = invoke(
        "train", "wrn10_1", "--data", "digits", "--track", "neptune", "-o", "out", code=2
    )
    assert "--track" in result.stderr
    assert list(Path().iterdir()) == []


class Client:
    """`mlflow.tracking.MlflowClient`, of which every call is kept."""

    calls: list[tuple[str, Any]]
    runs: dict[str, list[Any]]

    def __init__(self, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        self.calls.append(("client", tracking_uri))

    def get_experiment_by_name(self, name: str) -> Any:
        return None

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Any = None
    ) -> str:
        self.calls.append(("experiment", (name, artifact_location)))
        return "7"

    def create_run(
        self, experiment_id: str, start_time: Any = None, tags: Any = None, run_name: Any = None
    ) -> Any:
        self.calls.append(("run", (experiment_id, run_name)))
        return SimpleNamespace(info=SimpleNamespace(run_id="id-1"))

    def update_run(self, run_id: str, status: Any = None, name: Any = None) -> None:
        self.calls.append(("update", (run_id, status)))

    def log_batch(
        self,
        run_id: str,
        metrics: Any = (),
        params: Any = (),
        tags: Any = (),
        synchronous: Any = None,
    ) -> None:
        assert len(metrics) <= 1000
        assert len(params) <= 100
        self.calls.append(("params", dict(params)) if params else ("metrics", list(metrics)))

    def set_terminated(self, run_id: str, status: Any = None, end_time: Any = None) -> None:
        self.calls.append(("end", (run_id, status)))


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Puts stand-ins for mlflow into sys.modules; returns the calls."""
    calls: list[tuple[str, Any]] = []
    Client.calls = calls
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    contents: dict[str, dict[str, Any]] = {
        "mlflow": {},
        "mlflow.tracking": {"MlflowClient": Client},
        "mlflow.exceptions": {"MlflowException": type("MlflowException", (Exception,), {})},
        "mlflow.entities": {
            "Metric": lambda key, value, timestamp, step: (key, value, step),
            "Param": lambda key, value: (key, value),
        },
    }
    for name, content in contents.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    yield calls
    os.environ.pop("MLFLOW_DISABLE_TELEMETRY", None)


def tracked(name: str, folder: Path, earlier: str | None = None) -> None:
    kind = tracking.KINDS[name][0]()
    kind.start(Run("out", {"lr": 0.1, "data": "digits"}, folder, folder, 2, earlier))
    kind.steps([Reading(3, 1.5, 0.1, 100.0)])
    kind.epoch(1, 3, {"loss/train": 1.5})
    kind.end("finished", {"accuracy": 90.0})


def test_mlflow_is_written_beside_the_output(mlflow: list[Any], tmp_path: Path) -> None:
    tracked("mlflow", tmp_path)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert mlflow == [
        ("client", f"sqlite:///{tmp_path.as_posix()}/mlflow.db"),
        ("experiment", ("seclcompress", (tmp_path / "mlflow-files").as_uri())),
        ("run", ("7", "out")),
        ("params", {"lr": "0.1", "data": "digits"}),
        ("metrics", [("loss/step", 1.5, 3), ("lr", 0.1, 3)]),
        ("metrics", [("loss/train", 1.5, 1)]),
        ("metrics", [("final/accuracy", 90.0, 0)]),
        ("end", ("id-1", "FINISHED")),
    ]


def test_mlflow_goes_where_the_person_says(
    mlflow: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mine:5000")
    tracked("mlflow", tmp_path)
    assert mlflow[:2] == [("client", "http://mine:5000"), ("experiment", ("seclcompress", None))]


def test_mlflow_goes_on_in_the_same_run(mlflow: list[Any], tmp_path: Path) -> None:
    tracked("mlflow", tmp_path, earlier="id-0")
    assert [call for call in mlflow if call[0] in ("update", "run", "params", "end")] == [
        ("update", ("id-0", "RUNNING")),
        ("end", ("id-0", "FINISHED")),
    ]


class Opened:
    """`wandb.Run`."""

    def __init__(self, calls: list[Any], arguments: dict[str, Any]) -> None:
        self.calls, self.id = calls, arguments["id"]
        self.dir, self.summary = str(Path(arguments["dir"]) / "wandb" / "here" / "files"), {}
        calls.append(("init", arguments))

    def define_metric(self, name: str, step_metric: Any = None) -> None: ...

    def log(self, data: dict[str, Any], step: int | None = None, commit: Any = None) -> None:
        self.calls.append(("log", (data, step)))

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        self.calls.append(("finish", (exit_code, dict(self.summary))))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Puts a stand-in for wandb into sys.modules; returns the calls."""
    calls: list[Any] = []
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    module = ModuleType("wandb")
    vars(module).update(
        init=lambda **arguments: Opened(calls, arguments), Settings=lambda **given: given
    )
    monkeypatch.setitem(sys.modules, "wandb", module)
    return calls


def test_wandb_is_offline_beside_the_output(wandb: list[Any], tmp_path: Path) -> None:
    tracked("wandb", tmp_path)
    kind, begun = wandb[0]
    assert kind == "init"
    assert (begun["mode"], begun["dir"], begun["project"]) == (
        *("offline", str(tmp_path), "seclcompress"),
    )
    assert begun["config"] == {"lr": 0.1, "data": "digits"}
    assert begun["settings"]["console"] == "off"  # what is printed is not taken
    assert wandb[1:] == [
        ("log", ({"loss/step": 1.5, "lr": 0.1}, 3)),
        ("log", ({"loss/train": 1.5, "epoch": 1}, 3)),
        ("finish", (0, {"final/accuracy": 90.0})),
    ]


def test_wandb_is_sent_where_the_person_says(
    wandb: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    tracked("wandb", tmp_path, earlier="abc")
    begun = wandb[0][1]
    assert (begun["mode"], begun["id"], begun["resume"]) == ("online", "abc", "allow")


def test_trials_of_tune_are_tracked_beside_the_study(keep: Keep, tmp_path: Path) -> None:
    """Not in the folder of the trials, which is removed."""
    kept = keep()
    workflows.tune(
        "wrn10_1",
        data="digits",
        output_dir=tmp_path / "study",
        search=["lr=0.05,0.1"],
        trials=1,
        settings=TrainingSettings(epochs=1, train_images=60, batch_size=20, track=("mlflow",)),
    )
    [begun] = kept.runs
    assert begun.beside == tmp_path
    assert begun.name.startswith("study.trials/trial-0")
    assert [ending for ending, _ in kept.ended] == ["finished"]
