"""Writes a run's progress as TensorBoard events."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from seclcompress import extras
from seclcompress.files import note
from seclcompress.observer import Observer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVENTS = "events.out.tfevents."  # TensorBoard adds the time and the machine


class TensorBoard(Observer):
    """An observer that writes TensorBoard events. Use it as a context manager.

    Args:
        folder: The folder for the events file.

    Raises:
        UsageError: If tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        extras.need("--tensorboard", "tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        # An interrupted run may have written events of steps after its checkpoint. These steps are
        # repeated, so TensorBoard is told to drop the old events.
        self._open = lambda done: SummaryWriter(folder, purge_step=done + 1)
        self._writer: SummaryWriter | None = None
        self._step = 0

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """Opens the events file. Old events of steps after `finished` are superseded."""
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
        """Writes the figures of an epoch."""
        assert self._writer is not None
        for key, name in (
            ("train_loss", "loss/train"),
            ("test_loss", "loss/test"),
            ("accuracy", "accuracy/top-1"),
            ("top5_accuracy", "accuracy/top-5"),
            ("validation_loss", "loss/validation"),
            ("validation_accuracy", "accuracy/validation"),
            ("images_per_second", "speed/images per second"),
        ):
            if key in record:
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
