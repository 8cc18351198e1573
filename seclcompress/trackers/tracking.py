"""Tells the trackers of a run what happens. One that fails is left out, and the run goes on."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from seclcompress import extras
from seclcompress.files import add_file
from seclcompress.observer import Observer
from seclcompress.trackers import mlflow, tensorboard, wandb
from seclcompress.trackers.contract import FIGURES, Ending, Reading, Run, Started, Tracker

_T = TypeVar("_T")

#: The trackers by the names in `settings.training.TRACKERS`, each with the packages that it needs.
KINDS: Mapping[str, tuple[Callable[[], Tracker], tuple[str, ...]]] = {
    "tensorboard": (tensorboard.TensorBoard, tensorboard.MODULES),
    "mlflow": (mlflow.MLflow, mlflow.MODULES),
    "wandb": (wandb.Wandb, wandb.MODULES),
}
#: The file of a run in progress with what each tracker calls it, and the last step it was given.
STATE = "trackers.json"
#: Steps that are given to a tracker at once, and seconds after which they are given at the latest. Half
#: of MLflow's thousand figures a call.
MOST_STEPS, LONGEST = 500, 10.0


def check_trackers(names: Sequence[str]) -> None:
    """Checks, before any work, that the packages of trackers are installed.

    Raises:
        UsageError: If one is not; the message says what installs it.
    """
    for name in names:
        extras.need(f"--track {name}", name, *KINDS[name][1])


class Tracking(Observer):
    """Tells trackers of a run: its steps some at a time, its epochs, its end. A context manager.

    At the end of the block the run has ended as the block did, unless `finish` was called. A process
    that is killed takes the steps of its last seconds with it; they are repeated if they came after the
    last checkpoint, and otherwise missing from the trackers.

    Args:
        names: The trackers.
        run: The run; `finished` and `earlier` are filled in here.
        interrupted: The exceptions that mean that the run may be gone on with.
        tell: Is told where a run is tracked, and which tracker has failed.
    """

    def __init__(
        self,
        names: Sequence[str],
        run: Run,
        interrupted: type[Exception],
        tell: Callable[[str], object],
    ) -> None:
        self._trackers = {name: KINDS[name][0]() for name in names}
        self._run, self._interrupted, self._tell = run, interrupted, tell
        self._state: dict[str, dict[str, Any]] = {}
        self._waiting: list[Reading] = []
        self._step, self._given = 0, 0.0
        self._ended = False

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """Starts the trackers, or lets them go on after an interruption."""
        del epochs, steps
        self._step, self._given = finished, time.monotonic()
        earlier = _read(self._run.folder / STATE) if finished else {}
        for name in list(self._trackers):
            known = earlier.get(name, {})
            run = replace(self._run, finished=finished, earlier=known.get("run"))
            started = self._ask(name, lambda one, run=run: one.start(run), Started())  # type: ignore[misc]
            if name not in self._trackers:
                continue
            if started.run is not None:
                goes_on = started.run == known.get("run")
                last = known["step"] if goes_on else 0
                self._state[name] = {"run": started.run, "step": last}
            if started.words is not None:
                self._tell(started.words)
        self._keep_state()

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        """Keeps the step, and gives the trackers what has come together."""
        del epoch, images
        self._step += 1
        self._waiting.append(Reading(self._step, loss, lr, time.time()))
        late = time.monotonic() - self._given > LONGEST
        if late or len(self._waiting) >= MOST_STEPS:
            self._give()

    def epoch(self, record: dict[str, Any]) -> None:
        """Gives the trackers the steps and the figures of the epoch."""
        self._give()
        figures = {name: float(record[key]) for key, name in FIGURES.items() if key in record}
        epoch, step = int(record["epoch"]), self._step
        for name in list(self._trackers):
            self._ask(name, lambda one: one.epoch(epoch, step, figures), None)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Ends a run that is finished.

        Args:
            metrics: Its result.
        """
        self._end("finished", metrics)

    def _end(self, ending: Ending, metrics: Mapping[str, float]) -> None:
        if self._ended:
            return
        self._ended = True
        self._give()
        for name in list(self._trackers):
            self._ask(name, lambda one: one.end(ending, metrics), None)

    def _give(self) -> None:
        """Gives each tracker the steps that it does not have."""
        waiting, self._waiting, self._given = self._waiting, [], time.monotonic()
        if not waiting:
            return
        for name in list(self._trackers):
            last = self._state.get(name, {}).get("step", 0)
            new = [reading for reading in waiting if reading.number > last]
            if new:
                self._ask(name, lambda one, new=new: one.steps(new), None)  # type: ignore[misc]
            if name in self._state:
                self._state[name]["step"] = max(last, waiting[-1].number)
        self._keep_state()

    def _keep_state(self) -> None:
        """Writes what a resumed run needs; without it, trackers begin a new run."""
        if self._state:
            with contextlib.suppress(OSError):
                add_file(self._run.folder, STATE, json.dumps(self._state).encode())

    def _ask(self, name: str, work: Callable[[Tracker], _T], otherwise: _T) -> _T:
        """Asks a tracker for some work; after an exception it is told of and never asked again."""
        try:
            return work(self._trackers[name])
        except Exception as error:  # another program's; whatever it is, the run is worth more
            del self._trackers[name]
            self._state.pop(name, None)
            lines = str(error).strip().splitlines()
            why = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
            self._tell(f"--track {name} failed, and the run goes on without it ({why}).")
            return otherwise

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._end("finished", {})
        else:
            stopped = issubclass(kind, self._interrupted) or not issubclass(kind, Exception)
            self._end("interrupted" if stopped else "failed", {})


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """What the trackers called the run and were given; nothing where it cannot be read."""
    try:
        found = json.loads(path.read_bytes())
        return {
            str(name): {"run": str(known["run"]), "step": int(known["step"])}
            for name, known in found.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
