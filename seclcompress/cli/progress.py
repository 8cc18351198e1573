"""Observers of work with images, on stderr: the decoding of images, and the progress of training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from seclcompress.cli.drawing import Drawing
from seclcompress.report.training import BEFORE, settings_shown
from seclcompress.settings.training import TrainingSettings
from seclcompress.train.record import chosen_by

_SMOOTHING = 0.9  # the weight of earlier steps in the displayed images/s


class DrawingImages(Drawing):
    """Also shows the progress of decoding.

    Args:
        console: The console to print on, for stderr.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._decoding = console.status("")

    def decoding(self, data: str, done: int, total: int) -> None:
        """Shows a line until all images are decoded."""
        self._decoding.update(escape(f"Decoding {data}: {done:,} of {total:,} images"))
        if done < total:
            self._decoding.start()
        else:
            self._decoding.stop()


class TrainingProgress(DrawingImages):
    """Shows a training run: one line per epoch, and on a terminal also a progress bar.

    It is a context manager, which removes the bar at the end.

    Args:
        console: The console to print on, for stderr.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
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
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        """Shows a line while the work lasts; the bar of an earlier run is removed."""
        self._bar.stop()
        with super().working(words) as tell:
            yield tell

    def decoding(self, data: str, done: int, total: int) -> None:
        """Shows a line until all images are decoded; the bar of an earlier run is removed."""
        self._bar.stop()  # of two displays at once, one would keep standard output
        super().decoding(data, done, total)

    def run_begins(self, settings: TrainingSettings, leave_out: Collection[str]) -> None:
        """Prints the settings that are not the defaults."""
        self._console.print(settings_shown(settings, self._console.width, leave_out))

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """Shows the bar, at the step from which the run continues."""
        self._epochs, self._last = epochs, time.monotonic()
        if self._task is not None:  # of an earlier run
            self._bar.remove_task(self._task)
        self._bar.start()
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
        """Prints the accuracies before the first step."""
        super().before(accuracies)
        self._console.print(
            "Before the first step: "
            + ", ".join(f"{BEFORE[name]} {accuracy:.2f} %" for name, accuracy in accuracies.items())
        )

    def epoch(self, record: dict[str, Any]) -> None:
        """Prints the line of an epoch above the bar."""
        super().epoch(record)
        part = "validation" if "validation_accuracy" in record else "test"
        size = f"{record['parameters']:,} parameters  " if "parameters" in record else ""
        self._console.print(
            f"epoch {record['epoch']:>{len(str(self._epochs))}}/{self._epochs}  "
            f"train loss {record['train_loss']:.4f}  {part} loss {record[f'{part}_loss']:.4f}  "
            f"{part} accuracy {chosen_by(record):.2f} %  {size}{record['seconds']:.1f} s"
        )
        self._last = time.monotonic()
        if record["epoch"] == self._epochs:
            self._bar.stop()
