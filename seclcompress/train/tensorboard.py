"""A run as TensorBoard events."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from seclcompress.errors import UsageError
from seclcompress.files import note
from seclcompress.observer import Observer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVENTS = "events.out.tfevents."  # TensorBoard adds the time and the machine


class TensorBoard(Observer):
    """Writes what a `Trainer` tells it as TensorBoard events, while it is open.

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

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
