"""Tuning through Python: trials are ordinary runs, and a study goes on wherever it was left."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pictures import paint
from runs import Listening, Silent

from seclcompress import recipes
from seclcompress.errors import ArtefactError, DataError, NetworkError, UsageError
from seclcompress.files.manifest import is_named, read_manifest
from seclcompress.files.system import claim
from seclcompress.report.tuning import FAILED, FINISHED, OPEN, STOPPED, UNSUITABLE, Trial
from seclcompress.settings.search import parse_space
from seclcompress.settings.training import TrainingSettings
from seclcompress.workflows.converting import convert
from seclcompress.workflows.runs import InterruptedRunError, TrainingResult
from seclcompress.workflows.studies import Current, Hyperband, Study, claim_of, work_of
from seclcompress.workflows.training import train
from seclcompress.workflows.trials import Work
from seclcompress.workflows.tuning import Tuned, tune

SIZE = (3, 8, 8)
SMALL = TrainingSettings(epochs=2, train_images=60, seed=1)
SEARCH = ("lr=0.001..0.5:log", "batch_size=10,25,50")


def run(folder: Path, observer: Silent | None = None, **more: object) -> Tuned:
    options = {"settings": SMALL, "search": SEARCH, "trials": 3, "input_size": SIZE, **more}
    return tune("wrn10_1", data="digits", output_dir=folder, observer=observer, **options)


def timeless(trials: list[Trial]) -> list[Trial]:
    return [replace(trial, seconds=0.0) for trial in trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """A study that nobody interrupted."""
    return run(tmp_path_factory.mktemp("whole") / "out")


def test_the_result_is_data_and_a_folder(tmp_path: Path, capfd, whole: Tuned) -> None:
    observer = Listening()
    found = run(tmp_path / "out", observer)
    assert timeless(found.trials) == timeless(whole.trials)  # the same seed, the same trials
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    files = sorted(path.name for path in found.folder.iterdir())
    assert files == [
        *("importance.png", "manifest.json", "recipe.toml", "study.sqlite"),
        *("trials.csv", "trials.png"),
    ]
    entries = read_manifest(found.folder)
    assert entries is not None
    assert all(is_named(path, entries) for path in found.folder.iterdir())
    best = found.best
    assert best is not None
    finished = [trial for trial in found.trials if trial.state == FINISHED]
    assert best.accuracy == max(trial.accuracy for trial in finished)
    recipe = recipes.read_recipe(str(found.folder / "recipe.toml"))
    assert recipe == {
        **{"epochs": 2, "train_images": 60, "seed": 1},
        **{"lr": float(best.values["lr"]), "batch_size": int(best.values["batch_size"])},
    }
    rows = list(csv.DictReader((found.folder / "trials.csv").read_text().splitlines()))
    assert [row["lr"] for row in rows] == [trial.values["lr"] for trial in found.trials]
    assert capfd.readouterr() == ("", "")
    said = " ".join(observer.words)
    assert "Trials are compared on 0.1 of the training images" in said
    for trial in found.trials:
        assert f"Trial {trial.number} (lr {trial.values['lr']}, batch_size " in said
    assert observer.epochs == []


def test_a_trial_is_an_ordinary_run_judged_by_held_out_images(tmp_path: Path, whole: Tuned) -> None:
    best = whole.best
    assert best is not None
    settings = recipes.make_settings(str(whole.folder / "recipe.toml"), {"validation": 0.1})
    result = train(
        "wrn10_1", data="digits", output_dir=tmp_path, input_size=SIZE, settings=settings,
        overwrite=True,
    )  # fmt: skip
    assert [record["validation_accuracy"] for record in result.history] == list(best.curve.values())
    stopped = [trial for trial in whole.trials if trial.state != FINISHED]
    assert all(trial.test_accuracy is None for trial in stopped), "test images choose nothing"
    assert result.metrics["validation_loss"] == best.loss
    assert result.metrics["accuracy"] == best.test_accuracy
    assert best.test_accuracy != best.accuracy


class TestStudy:
    """Studies without runs: the accuracy is a function of what is tried."""

    SPACE = parse_space(["lr=0.001..1:log", "cutout=0..16:4", "taps=a|b,c", "factor_lr=none,0.5"])

    def filled(self, folder: Path, count: int, at_once: int = 1) -> Study:
        study = Study(folder, {}, self.SPACE, 3, Hyperband(1))
        for _ in range(len(study.trials()), count, at_once):
            with contextlib.ExitStack() as stack:
                taken = [stack.enter_context(study.next_trial(count)) for _ in range(at_once)]
                for current in taken:
                    distance = abs(math.log10(current.values["lr"]) + 1)
                    accuracy = 90 - 20 * distance
                    figures = {"loss": 1.0, "test_accuracy": None, "seconds": 1.0}
                    current.report(1, accuracy, figures)
                    study.finish(current, accuracy)
        return study

    def test_the_values_are_those_of_the_space_and_get_better(self, tmp_path: Path) -> None:
        study = self.filled(tmp_path / "one", 25)
        tried = [study.values_of(trial.number) for trial in study.trials()]
        for values in tried:
            assert 0.001 <= values["lr"] <= 1
            assert values["lr"] == float(f"{values['lr']:.4g}")
            assert values["cutout"] in range(0, 17, 4)
            assert values["taps"] in [("a",), ("b", "c")]
            assert values["factor_lr"] in [None, 0.5]
        assert len({values["lr"] for values in tried}) == 25
        distances = [abs(math.log10(values["lr"]) + 1) for values in tried]
        assert sum(distances[-10:]) < 0.9 * sum(distances[:10])  # it learns
        importance = study.importance()
        assert sum(importance.values()) == pytest.approx(1)
        assert importance["lr"] > 0.8
        # Opened anew for each trial, it tries the same values.
        for count in (3, 7, 9):
            again = self.filled(tmp_path / "two", count)
        found = [again.values_of(trial.number) for trial in again.trials()]
        assert found == tried[:9]

    def test_side_by_side_every_trial_is_another_one(self, tmp_path: Path) -> None:
        study = self.filled(tmp_path, 6, at_once=3)
        assert [trial.number for trial in study.trials()] == list(range(6))
        assert len({trial.values["lr"] for trial in study.trials()}) == 6
        with study.next_trial(6) as none:
            assert none is None

    def test_importance_needs_trials_that_differ(self, tmp_path: Path) -> None:
        assert self.filled(tmp_path, 1).importance() == {}


def test_hyperband_stops_trials_early(tmp_path: Path) -> None:
    settings = SMALL.model_copy(update={"epochs": 4})
    search = ("lr=1e-9,0.1", "batch_size=10,25")
    found = run(tmp_path / "out", settings=settings, search=search, trials=6, reduction_factor=2)
    stopped = [trial for trial in found.trials if trial.state == STOPPED]
    assert stopped
    assert {trial.epochs for trial in stopped} <= {1, 2}
    assert {trial.epochs for trial in found.trials if trial.state == FINISHED} == {4}
    assert found.best.values["lr"] == "0.1"  # type: ignore[union-attr]
    assert not work_of(tmp_path / "out").exists()


def test_numbers_that_are_not_finite_end_a_trial_and_not_the_study(tmp_path: Path) -> None:
    found = run(tmp_path / "out", search=("lr=1e30,0.05", "batch_size=25,50"))
    states = {trial.values["lr"]: trial.state for trial in found.trials}
    assert states == {"1e+30": UNSUITABLE, "0.05": FINISHED}
    bad = next(trial for trial in found.trials if trial.state == UNSUITABLE)
    assert "Try a smaller --lr" in bad.reason
    assert found.best.values["lr"] == "0.05"  # type: ignore[union-attr]
    none = run(tmp_path / "none", search=("lr=1e30,1e31",), trials=2)
    assert (none.best, none.importance) == (None, {})
    assert not (tmp_path / "none" / "recipe.toml").exists()
    assert not work_of(tmp_path / "none").exists()


class TestGoingOn:
    def test_with_more_trials(self, tmp_path: Path, whole: Tuned) -> None:
        assert len(run(tmp_path / "out", trials=1).trials) == 1
        found = run(tmp_path / "out")
        assert timeless(found.trials) == timeless(whole.trials)
        observer = Silent()
        again = run(tmp_path / "out", observer, trials=2)  # there are more already
        assert (observer.steps, again.trials) == ([], found.trials)

    def test_after_it_was_asked_to_stop(self, tmp_path: Path, whole: Tuned) -> None:
        pieces: list[Callable[[], None]] = []

        class After(Silent):
            def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
                super().step(epoch, images, loss, lr)
                if len(self.steps) == 5:
                    pieces[-1]()

        def stopping(stop: Callable[[], None]) -> contextlib.nullcontext[None]:
            pieces.append(stop)
            return contextlib.nullcontext()

        with pytest.raises(InterruptedRunError, match=r"trials are done, and trial \d is saved in"):
            run(tmp_path / "out", After(), stopping=stopping)
        begun = list(csv.DictReader((tmp_path / "out" / "trials.csv").read_text().splitlines()))
        assert begun[-1]["state"] == OPEN
        observer = Listening()
        found = run(tmp_path / "out", observer)
        assert f"Trial {len(begun) - 1} was begun before: going on with it." in observer.words
        assert timeless(found.trials) == timeless(whole.trials)
        assert not work_of(tmp_path / "out").exists()

    @pytest.mark.parametrize("behind", [True, False])
    def test_asked_to_stop_as_a_trial_ends_by_itself(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: bool
    ) -> None:
        """The next trial is not begun then."""
        asks: list[Callable[[], None]] = []
        stops: list[str] = []
        record = {"epoch": 1, "accuracy": 5.0, "test_loss": 1.0, "seconds": 1.0}

        def perform(*, stopping, observer, **rest: object) -> TrainingResult:
            with stopping(lambda: stops.append("stop")):
                observer.epoch(record)
                asks[-1]()
            if behind:
                raise InterruptedRunError("of the run")
            return TrainingResult([record], {}, {}, tmp_path)

        def stopping(stop: Callable[[], None]) -> contextlib.nullcontext[None]:
            asks.append(stop)
            return contextlib.nullcontext()

        monkeypatch.setattr(Current, "report", lambda *arguments: behind)
        study = Study(tmp_path / "out", {}, parse_space(SEARCH), 1, Hyperband(2))
        work = Work(study, SMALL, perform, stopping, math.inf, Silent())
        with pytest.raises(InterruptedRunError, match="^1 trial is done; the same command goes on"):
            work.do_next(5)
        assert [trial.state for trial in study.trials()] == [STOPPED if behind else FINISHED]
        assert len(stops) == 1 + behind

    def test_by_the_clock(self, tmp_path: Path) -> None:
        with pytest.raises(InterruptedRunError, match="0 trials are done, and trial 0 is saved"):
            run(tmp_path / "out", time_limit=0)
        run(tmp_path / "out", time_limit=1000, trials=1)
        with pytest.raises(
            InterruptedRunError, match="; the same command without --overwrite goes"
        ):
            run(tmp_path / "out", time_limit=0, overwrite=True)

    @pytest.mark.parametrize("steps", [1, 6])
    def test_after_an_interrupt(self, tmp_path: Path, whole: Tuned, steps: int) -> None:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "out", Silent(stop_after=steps))
        found = run(tmp_path / "out")
        assert timeless(found.trials) == timeless(whole.trials)

    def test_after_an_error_that_is_not_of_the_settings(
        self, tmp_path: Path, whole: Tuned, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(handle: int) -> None:
            raise OSError(28, "No space left on device")

        class Full(Silent):
            def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
                monkeypatch.setattr("os.fsync", full)

        with pytest.raises(ArtefactError, match="No space left"):
            run(tmp_path / "out", Full())
        monkeypatch.undo()
        assert timeless(run(tmp_path / "out").trials) == timeless(whole.trials)

    def test_a_trial_that_ends_with_an_error_three_times_is_given_up(
        self, tmp_path: Path, whole: Tuned
    ) -> None:
        class Failing(Silent):
            def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
                raise self.error

        failing = Failing()
        for failing.error in (DataError("No such image: 1."), OSError("a bug"), DataError("2.")):
            with pytest.raises(type(failing.error)):
                run(tmp_path / "out", failing)
            if isinstance(failing.error, DataError):  # of a bug nothing more is asked
                rows = list(csv.DictReader((tmp_path / "out" / "trials.csv").open()))
                assert [row["state"] for row in rows] == [OPEN]
        found = run(tmp_path / "out")
        assert found.trials[0].state == FAILED
        assert found.trials[0].reason == "its process died 3 times; its last error: 2."
        assert FAILED not in [trial.state for trial in found.trials[1:]]
        assert not work_of(tmp_path / "out").exists()

    def test_batches_that_do_not_fit_end_a_trial_and_not_the_study(self, tmp_path: Path) -> None:
        """One image in a batch gives batch norm nothing to normalise by."""
        settings = SMALL.model_copy(update={"train_images": 2, "epochs": 1})
        search = ("batch_size=1,2", "accumulate=1,3")
        found = tune(
            "resnet18", data="digits", output_dir=tmp_path / "out", search=search, trials=6,
            settings=settings, input_size=(3, 8, 8),
        )  # fmt: skip
        states = {tuple(trial.values.values()): trial.state for trial in found.trials}
        assert UNSUITABLE in states.values()
        for (size, accumulate), state in states.items():
            assert (state == UNSUITABLE) == (size == "1" or accumulate == "3")
        reasons = " ".join(trial.reason for trial in found.trials)
        assert "cannot train on 1 images" in reasons or "too few training images" in reasons

    @pytest.mark.parametrize("heard", [False, True])
    @pytest.mark.parametrize("behind", [False, True])
    def test_an_epoch_that_was_saved_but_not_reported(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        whole: Tuned,
        heard: bool,
        behind: bool,
    ) -> None:
        """The process dies after the checkpoint: before the study hears of it, or before it stops."""
        report = Current.report

        def dying(self: Current, *arguments: object) -> bool:
            if heard:
                report(self, *arguments)  # type: ignore[arg-type]
            raise KeyboardInterrupt

        monkeypatch.setattr("optuna.Trial.should_prune", lambda trial: behind)
        monkeypatch.setattr(Current, "report", dying)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "out", trials=1)
        monkeypatch.setattr(Current, "report", report)
        monkeypatch.setattr("optuna.Trial.should_prune", lambda trial: behind and not heard)
        [trial] = run(tmp_path / "out", trials=1).trials
        assert trial.state == (STOPPED if behind else FINISHED)
        first = whole.trials[0].curve
        assert trial.curve == ({1: first[1]} if behind else first)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_trial_whose_processes_die_is_given_up(self, tmp_path: Path) -> None:
        folder = tmp_path / "out"
        run(folder, trials=1)
        space = parse_space(SEARCH)

        def die() -> None:
            about = json.loads(self.about(folder))
            with Study(folder, about, space, 1, Hyperband(2)).next_trial(2) as current:
                os._exit(current is None)

        for _ in range(3):
            child = os.fork()
            if child == 0:
                try:
                    die()
                finally:
                    os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        found = run(folder, trials=3)
        assert [trial.state == FAILED for trial in found.trials] == [False, True, False]
        assert found.trials[1].reason == "its process died 3 times"

    @staticmethod
    def about(folder: Path) -> str:
        import sqlite3

        with contextlib.closing(sqlite3.connect(folder / "study.sqlite")) as storage:
            [(found,)] = storage.execute(
                "SELECT value_json FROM study_user_attributes WHERE key = 'about'"
            )
        return str(found)


def test_patience_is_no_matter_of_a_study(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--patience 3: a study stops trials that are behind"):
        run(tmp_path / "out", settings=SMALL.model_copy(update={"patience": 3}))
    assert not (tmp_path / "out").exists()


def test_another_study_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, trials=1)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for more, words in (
        (
            {"search": ("lr=0.001..0.4:log", SEARCH[1])},
            r"--search lr was 0.001..0.5:log, not 0.001",
        ),
        ({"search": SEARCH[:1]}, "--search batch_size was 10,25,50, not none; batch_size was none"),
        ({"settings": SMALL.model_copy(update={"momentum": 0.8})}, "momentum was 0.9, not 0.8"),
        ({"settings": SMALL.model_copy(update={"epochs": 4})}, "epochs was 2, not 4"),
        ({"least_epochs": 2}, "least_epochs was 1, not 2"),
        ({"input_size": (3, 9, 9)}, "input_size was .*8.*, not .*9"),
    ):
        with pytest.raises(UsageError, match=words):
            run(out, **more)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    workers = SMALL.model_copy(update={"workers": 1, "checkpoint_seconds": 3.0})
    assert len(run(out, settings=workers, trials=1).trials) == 1  # they change no result
    fresh = run(out, search=SEARCH[:1], trials=1, overwrite=True)
    assert list(fresh.trials[0].values) == ["lr"]


class TestNothingIsOverwritten:
    def test_what_is_no_study(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        settings = SMALL.model_copy(update={"epochs": 1})
        train("wrn10_1", data="digits", output_dir=out, settings=settings, input_size=SIZE)
        with pytest.raises(ArtefactError, match="is there already"):
            run(out)
        assert (out / "model.safetensors").exists()
        run(out, trials=1, overwrite=True)
        assert not (out / "model.safetensors").exists()
        (out / "mine.txt").write_text("mine")
        assert len(run(out, trials=1).trials) == 1  # going on takes nothing away
        with pytest.raises(
            ArtefactError, match=r"holds what seclcompress did not write \(mine.txt"
        ):
            run(out, overwrite=True)
        assert (out / "mine.txt").read_text() == "mine"

    def test_a_study_that_a_process_is_at(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        run(out, trials=1)
        with claim(claim_of(out, 1)):
            with pytest.raises(ArtefactError, match="Another process is at trial 1 of the study"):
                run(out, trials=1, overwrite=True)

    def test_a_typing_error(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        run(out, trials=1)
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        for error, words, more in (
            (UsageError, "there is no setting lrr. Did you mean lr", {"search": ("lrr=1,2",)}),
            (UsageError, "--trials 0", {"trials": 0}),
            (UsageError, "--least-epochs 4: a trial has 2 epochs", {"least_epochs": 4}),
            (UsageError, "--reduction-factor 1", {"reduction_factor": 1}),
            (UsageError, "--teacher-weights x: there is no --teacher", {"teacher_weights": "x"}),
            (UsageError, "--weights x: with --teacher", {"weights": "x", "teacher": out}),
        ):
            for folder in (out, tmp_path / "new"):
                with pytest.raises(error, match=words):
                    run(folder, overwrite=True, **more)
        rest = {"search": SEARCH, "settings": SMALL, "overwrite": True}
        with pytest.raises(NetworkError, match="wrn11"):
            tune("wrn11", data="digits", output_dir=out, **rest)
        with pytest.raises(UsageError, match="Unknown data 'digit'"):
            tune("wrn10_1", data="digit", output_dir=out, **rest)
        with pytest.raises(DataError, match="There is no folder"):
            tune("wrn10_1", data="imagefolder:none", output_dir=out, **rest)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_damaged_study_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, trials=1)
    (out / "study.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(ArtefactError, match=r"study.sqlite cannot be used: .*not a database"):
        run(out)
    run(out, trials=1, overwrite=True)


def test_without_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"pip install 'seclcompress\[tune\]'"):
        run(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_torchrun_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="Start the same command several times"):
        run(tmp_path / "out")


def test_a_folder_without_test_images(tmp_path: Path) -> None:
    """The held-out images are its test images then, and a recipe without them would not run."""
    data = paint(tmp_path / "flat", {"a": "red", "b": "blue"}, parts={"": 10})
    settings = TrainingSettings(epochs=1)
    found = tune(
        "wrn10_1", data=data, output_dir=tmp_path / "out", search=("lr=0.01..0.1", "batch_size=4,8"),
        trials=1, settings=settings, input_size=SIZE,
    )  # fmt: skip
    [trial] = found.trials
    assert trial.test_accuracy is None
    assert trial.accuracy is not None
    assert recipes.read_recipe(str(tmp_path / "out" / "recipe.toml"))["validation"] == 0.1


def test_distilling(tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=1, train_images=50, batch_size=25, validation=0.2)
    train(
        "wrn10_1", data="digits", output_dir=tmp_path / "teacher", settings=settings,
        input_size=SIZE,
    )  # fmt: skip
    convert(tmp_path / "teacher", tmp_path / "student")
    search = ("factor_decay=ratio,fixed,1e-3", "alpha=0..1", "taps=group1|group2,group3")
    options = {
        "data": "digits",
        "output_dir": tmp_path / "out",
        "search": search,
        "settings": settings,
        "untrained_teacher": True,
    }
    found = tune(tmp_path / "student", teacher=tmp_path / "teacher", trials=2, **options)
    assert all(trial.state in (FINISHED, STOPPED) for trial in found.trials)
    recipe = recipes.read_recipe(str(tmp_path / "out" / "recipe.toml"))
    assert {"factor_decay", "alpha", "taps"} <= recipe.keys()
    assert "validation" not in recipe
    # Another teacher in the same place is another study.
    train(
        "wrn10_1", data="digits", output_dir=tmp_path / "teacher", input_size=SIZE, overwrite=True,
        settings=settings.model_copy(update={"seed": 5}),
    )  # fmt: skip
    with pytest.raises(UsageError, match="teacher was the folder of the weights"):
        tune(tmp_path / "student", teacher=tmp_path / "teacher", trials=3, **options)
    with pytest.raises(UsageError, match="alpha is used with a teacher only"):
        tune(tmp_path / "student", **options)
