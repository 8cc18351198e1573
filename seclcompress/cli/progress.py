"""Progress of long work: bars on a terminal, one line an epoch elsewhere, TensorBoard events."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from seclcompress.errors import UsageError
from seclcompress.files import note

if TYPE_CHECKING:
    from seclcompress.processes import Processes
    from seclcompress.train import Observer

EVENTS = "events.out.tfevents."  # TensorBoard adds the time and the machine
_SMOOTHING = 0.9  # of images/s, from step to step


@contextlib.contextmanager
def counting(console: Console, words: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told how many of how many are done."""
    columns = (TextColumn(words), BarColumn(bar_width=None), MofNCompleteColumn(), TimeLeft())
    off = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=off) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


class TrainingProgress:
    """Draws what a `Trainer` tells it, while it is open.

    Args:
        console: On stderr.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[speed]:>6.0f} images/s  loss {task.fields[loss]:.3f}"),
            TimeLeft(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=60,
        )
        self._task: TaskID | None = None
        self._epochs, self._speed, self._last = 0, 0.0, 0.0

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """Draws an empty bar, or one that stands where the run goes on."""
        self._epochs, self._last = epochs, time.monotonic()
        self._task = self._bar.add_task(
            "", total=epochs * steps, completed=finished, speed=0.0, loss=float("nan")
        )

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        """Moves the bar by one step."""
        del lr
        now = time.monotonic()
        speed = images / max(now - self._last, 1e-9)
        self._last = now
        self._speed = _SMOOTHING * self._speed + (1 - _SMOOTHING) * speed if self._speed else speed
        assert self._task is not None
        self._bar.update(
            self._task,
            advance=1,
            description=f"epoch {epoch}/{self._epochs}",
            speed=self._speed,
            loss=loss,
        )

    def before(self, accuracies: dict[str, float]) -> None:
        """Prints what was right before."""
        self._console.print(
            "Before the first step: "
            + ", ".join(f"{name} {accuracy:.2f} %" for name, accuracy in accuracies.items())
        )

    def epoch(self, record: dict[str, Any]) -> None:
        """Prints an epoch's line above the bar."""
        self._console.print(
            f"epoch {record['epoch']:>{len(str(self._epochs))}}/{self._epochs}  "
            f"train loss {record['train_loss']:.4f}  test loss {record['test_loss']:.4f}  "
            f"accuracy {record['accuracy']:.2f} %  {record['seconds']:.1f} s"
        )
        self._last = time.monotonic()


class TensorBoard:
    """Writes what a `Trainer` tells it as TensorBoard events.

    Args:
        folder: Where the events file goes.

    Raises:
        UsageError: If tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                "--tensorboard needs the tensorboard package: pip install 'seclcompress[tensorboard]'"
            ) from error
        self._folder = folder
        # What an interrupted run wrote of steps that are done again is not to be shown twice.
        self._open = lambda done: SummaryWriter(folder, purge_step=done + 1 if done else None)
        self._writer: SummaryWriter | None = None
        self._step = 0

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """Goes on after the steps that are done; what was written of later ones is superseded."""
        del epochs, steps
        note(self._folder, f"{EVENTS}*")
        self._writer, self._step = self._open(finished), finished

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        """Writes the loss and the learning rate of a step."""
        del epoch, images
        assert self._writer is not None
        self._step += 1
        self._writer.add_scalar("loss/step", loss, self._step)
        self._writer.add_scalar("lr", lr, self._step)

    def before(self, accuracies: dict[str, float]) -> None:
        """Is in the table at the end."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Writes an epoch's figures."""
        assert self._writer is not None
        for key, name in (
            ("train_loss", "loss/train"),
            ("test_loss", "loss/test"),
            ("accuracy", "accuracy/top-1"),
            ("top5_accuracy", "accuracy/top-5"),
            ("images_per_second", "speed/images per second"),
        ):
            self._writer.add_scalar(name, record[key], record["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Finishes the file."""
        if self._writer is not None:
            self._writer.close()


class _Everyone:
    """Tells several observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def start(self, epochs: int, steps: int, finished: int) -> None:
        for observer in self._observers:
            observer.start(epochs, steps, finished)

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        for observer in self._observers:
            observer.step(epoch, images, loss, lr)

    def before(self, accuracies: dict[str, float]) -> None:
        for observer in self._observers:
            observer.before(accuracies)

    def epoch(self, record: dict[str, Any]) -> None:
        for observer in self._observers:
            observer.epoch(record)


@contextlib.contextmanager
def observe(console: Console, processes: Processes, events: Path | None) -> Iterator[Observer]:
    """What a run is told to, while it is open: the terminal and TensorBoard, by one process only.

    Args:
        console: On stderr.
        processes: Which of how many this is.
        events: The folder for TensorBoard events; None for none.

    Raises:
        UsageError: If tensorboard is not installed.
    """
    if not processes.first:
        yield _Everyone([])
        return
    board = None if events is None else TensorBoard(events)
    with TrainingProgress(console) as bar:
        try:
            yield _Everyone([bar, *([] if board is None else [board])])
        finally:
            if board is not None:
                board.close()
