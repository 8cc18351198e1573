"""What a tracker is: a program that a run's settings and figures are written for, as it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

#: How a run ended. An interrupted one may be gone on with.
Ending = Literal["finished", "interrupted", "failed"]

#: The names under which trackers have the figures of an epoch, by those in metrics.jsonl.
FIGURES = {
    "train_loss": "loss/train",
    "test_loss": "loss/test",
    "accuracy": "accuracy/top-1",
    "top5_accuracy": "accuracy/top-5",
    "validation_loss": "loss/validation",
    "validation_accuracy": "accuracy/validation",
    "images_per_second": "speed/images per second",
}
#: The figures of a step.
STEP_LOSS, STEP_LR = "loss/step", "lr"


class Reading(NamedTuple):
    """A step.

    Attributes:
        number: Counted from 1 over the whole run.
        loss: The mean loss over the images of the step.
        lr: The learning rate.
        time: When it was done, in seconds since 1970.
    """

    number: int
    loss: float
    lr: float
    time: float


@dataclass(frozen=True)
class Run:
    """The run that is tracked.

    Attributes:
        name: Its name for people.
        settings: What it was started with, by name.
        folder: The folder of the run in progress.
        beside: The folder for files that several runs share and that stay; it is not the run's own.
        finished: Steps that were done before it was resumed.
        earlier: What the tracker called it (`Started.run`) before it was interrupted; None if it is new.
    """

    name: str
    settings: Mapping[str, Any]
    folder: Path
    beside: Path
    finished: int = 0
    earlier: str | None = None


class Started(NamedTuple):
    """What a tracker says when it has started.

    Attributes:
        run: What it calls the run, so that a resumed run goes on in it; None if it keeps steps apart by
            itself. Steps that it has been given under this name are not given to it again.
        words: Where the run is written, in a sentence; None if there is nothing to say.
    """

    run: str | None = None
    words: str | None = None


class Tracker(Protocol):
    """Writes a run. Any exception ends the tracker, and not the run."""

    def start(self, run: Run) -> Started:
        """Begins a run, or goes on with an earlier one."""

    def steps(self, readings: Sequence[Reading]) -> None:
        """Writes steps, in their order; at most `tracking.MOST_STEPS`."""

    def epoch(self, epoch: int, step: int, figures: Mapping[str, float]) -> None:
        """Writes the figures of an epoch.

        Args:
            epoch: Counted from 1.
            step: Its last step.
            figures: By the names in `FIGURES`.
        """

    def end(self, ending: Ending, metrics: Mapping[str, float]) -> None:
        """Ends the run and closes what is open.

        Args:
            ending: How the run ended.
            metrics: The result of a finished run, as in the folder's config.json.
        """
