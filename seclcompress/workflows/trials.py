"""The trials of a study as runs: the study is told each epoch, and says where to stop."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from seclcompress.errors import UnsuitableSettingsError
from seclcompress.files import remove_ours
from seclcompress.observer import Observer
from seclcompress.report.tuning import FINISHED, OPEN, STOPPED, Trial
from seclcompress.settings.training import TrainingSettings
from seclcompress.train.record import METRICS, chosen_by
from seclcompress.workflows.output import Output
from seclcompress.workflows.runs import InterruptedRunError, Stopping, TrainingResult
from seclcompress.workflows.studies import Current, Study, place_of, work_of


def begun(folder: Path) -> list[int]:
    """The numbers of trials with files of a run."""
    found = work_of(folder).glob("trial-*") if work_of(folder).is_dir() else []
    numbers = {path.name.removeprefix("trial-").partition(".")[0] for path in found}
    return sorted(int(number) for number in numbers if number.isdecimal())


def remove_run(folder: Path, number: int) -> None:
    """Removes the files of a trial's run, whether it is done or was interrupted."""
    place = place_of(folder, number)
    for path in (place, place.with_name(place.name + ".partial")):
        if path.is_dir():
            remove_ours(path)


class Telling(Observer):
    """Listens to the run of a trial: reports its epochs to the study, and stops it when told to.

    Steps are passed on; of the words, only those that no earlier trial has said.

    Args:
        current: The trial.
        epochs: The epochs of a trial that is not stopped.
        observer: Receives what is passed on.
        said: What earlier trials have said; the words of this one are added.
        seconds: The time of the epochs that an earlier process has reported.
        partial: The folder of the run in progress.
    """

    def __init__(
        self,
        current: Current,
        epochs: int,
        observer: Observer,
        said: set[str],
        seconds: float,
        partial: Path,
    ) -> None:
        self._current, self._epochs, self._observer, self._said = current, epochs, observer, said
        self._stop: Callable[[], None] = lambda: None
        self._seconds, self._partial = seconds, partial
        self.is_stopped = self.was_asked = False

    @contextlib.contextmanager
    def stopping(self, stop: Callable[[], None], outer: Stopping) -> Iterator[None]:
        """Lets this observer stop the run as well as the caller, and notes who did."""

        def asked() -> None:
            self.was_asked = True
            stop()

        self._stop = stop
        with outer(asked):
            yield

    def message(self, words: str) -> None:
        """Passes the words on if they are new."""
        if words not in self._said:
            self._said.add(words)
            self._observer.message(words)

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        """Passes the report on."""
        with self._observer.working(words) as tell:
            yield tell

    def decoding(self, data: str, done: int, total: int) -> None:
        """Passes the report on."""
        self._observer.decoding(data, done, total)

    def run_begins(self, settings: TrainingSettings, leave_out: Collection[str]) -> None:
        """Passes the report on for the first trial; the others differ in what is tried."""
        if "" not in self._said:
            self._said.add("")
            self._observer.run_begins(settings, leave_out)

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """Passes the report on, and reports the epochs that a process had saved before it died."""
        self._observer.start(epochs, steps, finished)
        for record in self._records()[: finished // steps]:
            if not self._current.reported(record["epoch"]):
                self.epoch(record)
            elif record["epoch"] == finished // steps:
                self._stop_if(self._current.is_behind(record["epoch"]), record["epoch"])

    def _records(self) -> list[dict[str, Any]]:
        """The epochs that the interrupted run has written, perhaps one more than its checkpoint has."""
        path = self._partial / METRICS
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        """Passes the report on."""
        self._observer.step(epoch, images, loss, lr)

    def epoch(self, record: dict[str, Any]) -> None:
        """Reports the epoch to the study, and stops the run if Hyperband says so."""
        held_out = "validation_accuracy" in record
        self._seconds += record["seconds"]
        figures = {
            "loss": record["validation_loss" if held_out else "test_loss"],
            "test_accuracy": None,  # the test images are looked at when a trial is finished
            "seconds": self._seconds,
        }
        behind = self._current.report(record["epoch"], chosen_by(record), figures)
        self._stop_if(behind, record["epoch"])

    def _stop_if(self, behind: bool, epoch: int) -> None:
        if behind and epoch < self._epochs:
            self.is_stopped = True
            self._stop()


@dataclass
class Work:
    """The work of one process on a study.

    Attributes:
        study: The study.
        settings: The settings of all trials.
        perform: `train` or `distill`, with what is the same in all trials.
        stopping: As in `tune`.
        deadline: The time of `time.monotonic` at which to save and stop.
        observer: Receives reports.
        goes_on: How an interrupted study is gone on with, in words.
    """

    study: Study
    settings: TrainingSettings
    perform: Callable[..., TrainingResult]
    stopping: Stopping
    deadline: float
    observer: Observer
    goes_on: str = "the same command goes on"

    def __post_init__(self) -> None:
        self._said: set[str] = set()

    def do_next(self, wanted: int) -> bool:
        """Does the next trial; returns whether there was one to do.

        Args:
            wanted: The number of trials of the whole study.

        Raises:
            InterruptedRunError: If it was stopped.
            SeclcompressError: If the run failed for another reason than its settings.
        """
        with self.study.next_trial(wanted) as current:
            if current is None:
                return False
            self._do(current)
        return True

    def _do(self, current: Current) -> None:
        folder, number = self.study.folder, current.number
        before = self.study.trials()[number]
        if current.again:
            self.observer.message(f"Trial {number} was begun before: going on with it.")
        settings = self._settings_of(current)
        told = Telling(
            current,
            self.settings.epochs,
            self.observer,
            self._said,
            seconds=before.seconds,
            partial=Output(place_of(folder, number)).partial,
        )
        left = None if self.deadline == math.inf else max(0.0, self.deadline - time.monotonic())
        try:
            result = self.perform(
                output_dir=place_of(folder, number),
                settings=settings,
                resume=current.again,
                overwrite=True,  # what a process left that died at the end of this trial
                time_limit=left,
                stopping=partial(told.stopping, outer=self.stopping),
                observer=told,
            )
        except UnsuitableSettingsError as error:
            self.study.give_up(current, str(error))
        except InterruptedRunError:
            if not told.is_stopped:
                saved = f", and trial {number} is saved in {work_of(folder)}"
                raise InterruptedRunError(self._where_it_stands(saved)) from None
            self.study.give_up(current)
        else:
            last = result.history[-1]
            tested = last["accuracy"] if "validation_accuracy" in last else None
            self.study.finish(current, chosen_by(last), tested)
        remove_run(folder, number)
        self.observer.message(_line(self.study.trials()[number], self.settings.epochs))
        if told.was_asked:  # as the trial ended by itself
            raise InterruptedRunError(self._where_it_stands(""))

    def _settings_of(self, current: Current) -> TrainingSettings:
        common = self.settings.model_dump(exclude_unset=True)
        return TrainingSettings.model_validate({**common, **current.values})

    def _where_it_stands(self, saved: str) -> str:
        done = sum(trial.state != OPEN for trial in self.study.trials())
        are = "trial is" if done == 1 else "trials are"
        return f"{done} {are} done{saved}; {self.goes_on}."


def _line(trial: Trial, epochs: int) -> str:
    tried = ", ".join(f"{name} {value}" for name, value in trial.values.items())
    accuracy = "" if trial.accuracy is None else f"{trial.accuracy:.2f} % "
    after = f"{accuracy}after {trial.epochs} of {epochs} epochs"
    words = {FINISHED: after, STOPPED: f"{after}, stopped"}.get(trial.state)
    return f"Trial {trial.number} ({tried}): {words or f'{trial.state}: {trial.reason}'}"
