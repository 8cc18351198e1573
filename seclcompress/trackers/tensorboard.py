"""Writes a run as TensorBoard events, into its own folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from seclcompress.files import note
from seclcompress.trackers.contract import STEP_LOSS, STEP_LR, Ending, Reading, Run, Started

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVENTS = "events.out.tfevents."  # TensorBoard adds the time and the machine
MODULES = ("tensorboard",)


class TensorBoard:
    """Writes events. What an interrupted run wrote behind its checkpoint is superseded."""

    _writer: SummaryWriter

    def start(self, run: Run) -> Started:
        """Opens the events file."""
        from torch.utils.tensorboard import SummaryWriter

        note(run.folder, f"{EVENTS}*")
        # An interrupted run may have written events of steps after its checkpoint. These steps are
        # repeated, so TensorBoard is told to drop the old events.
        self._writer = SummaryWriter(run.folder, purge_step=run.finished + 1)
        return Started()

    def steps(self, readings: Sequence[Reading]) -> None:
        """Writes the loss and the learning rate of each step."""
        for reading in readings:
            for name, value in ((STEP_LOSS, reading.loss), (STEP_LR, reading.lr)):
                self._writer.add_scalar(name, value, reading.number, walltime=reading.time)

    def epoch(self, epoch: int, step: int, figures: Mapping[str, float]) -> None:
        """Writes the figures of an epoch, over the epochs."""
        del step
        for name, value in figures.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def end(self, ending: Ending, metrics: Mapping[str, float]) -> None:
        """Closes the events file; the result is in the folder itself."""
        del ending, metrics
        self._writer.close()
