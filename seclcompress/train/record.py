"""The files of a run in its folder: one line of metrics per epoch, the best weights, checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seclcompress.artefact import weights_bytes
from seclcompress.checkpoint import Progress, has_checkpoint, write_checkpoint
from seclcompress.files import add_file
from seclcompress.train.average import Average
from seclcompress.train.evaluation import Evaluation

#: What a record and a folder's metrics have in addition if images are held out.
VALIDATION = ("validation_loss", "validation_accuracy")
BEST, METRICS = "best.safetensors", "metrics.jsonl"


def best_of(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The best epoch: by the accuracy on the validation images, or else on the test images.

    Args:
        history: One record per epoch, as in metrics.jsonl; at least one.
    """
    return max(history, key=chosen_by)


def chosen_by(record: Mapping[str, Any]) -> float:
    """The accuracy that a run is judged by: on held-out images if there are any, or on the test images.

    Args:
        record: An epoch's line of metrics.jsonl.
    """
    return float(record.get("validation_accuracy", record["accuracy"]))


def _figures(validated: Evaluation) -> dict[str, float]:
    return dict(zip(VALIDATION, (validated.loss, validated.accuracy), strict=True))


class Record:
    """How far a run has come, in memory and in its folder.

    Args:
        folder: The folder of the run in progress.
        network: The network; checkpoints hold its weights.
        optimizers: The optimizers; checkpoints hold their tensors.
        scaler: The gradient scaler; checkpoints hold its state.
        average: The moving average of the weights; the best weights are its, and checkpoints hold it.
        progress: How far the run has come.
        writes: Whether this process writes files.
    """

    def __init__(
        self,
        folder: Path,
        network: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        scaler: torch.amp.GradScaler,
        average: Average,
        progress: Progress,
        *,
        writes: bool,
    ) -> None:
        self.folder, self.progress = folder, progress
        self._network, self._optimizers, self._scaler = network, optimizers, scaler
        self._average, self._writes = average, writes
        self._last_saved = time.monotonic()

    @property
    def seconds_since_save(self) -> float:
        """Seconds since the last checkpoint, which would be lost if the process died now."""
        return time.monotonic() - self._last_saved

    def add_step(self, images: int, loss: float, seconds: float, loading: float) -> None:
        """Adds a finished step to the progress.

        Args:
            images: Images in the step.
            loss: The mean loss over these images.
            seconds: Seconds that the step took.
            loading: Of `seconds`, those spent waiting for images.
        """
        progress = self.progress
        progress.step += 1
        progress.images += images
        progress.loss += loss * images
        progress.seconds += seconds
        progress.loading += loading

    def add_epoch(
        self,
        epoch: int,
        tested: Evaluation,
        lr: float,
        seconds: float,
        validated: Evaluation | None = None,
    ) -> dict[str, Any]:
        """Adds a finished epoch to the history and writes the epoch's files.

        Args:
            epoch: The number of the finished epoch, from 1.
            tested: The network's figures on the test images.
            lr: The learning rate of the epoch's last step.
            seconds: Seconds that the test took.
            validated: The network's figures on the validation images, if there are any.

        Returns:
            The epoch's line of metrics.jsonl.

        Raises:
            ArtefactError: If a file cannot be written.
        """
        progress = self.progress
        line = {
            "epoch": epoch,
            "train_loss": progress.loss / progress.images,
            "test_loss": tested.loss,
            "accuracy": tested.accuracy,
            **({} if tested.top5_accuracy is None else {"top5_accuracy": tested.top5_accuracy}),
            **({} if validated is None else _figures(validated)),
            "lr": lr,
            "seconds": round(progress.seconds + seconds, 3),
            "loading_seconds": round(progress.loading, 3),
            "images_per_second": round(progress.images / max(progress.seconds, 1e-9), 1),
        }
        progress.history.append(line)
        if (
            best_of(progress.history) is line and self._writes
        ):  # of equal ones, the first is the best
            with self._average.shown():
                best = weights_bytes(self._network)
            add_file(self.folder, BEST, best)
        progress.step, progress.images, progress.loss = 0, 0, 0.0
        progress.seconds, progress.loading = 0.0, 0.0
        if self._writes:
            lines = "".join(json.dumps(line) + "\n" for line in progress.history)
            add_file(self.folder, METRICS, lines.encode())
        # The checkpoint is written last, so that a run that dies before it repeats the end of the epoch
        # and writes the other files again.
        self.save()
        return line

    def save(self) -> None:
        """Writes a checkpoint.

        Raises:
            ArtefactError: If it cannot be written; the earlier one is then still there.
        """
        if self._writes:
            self.progress.scaler = self._scaler.state_dict()
            write_checkpoint(
                self.folder, self._network, self._optimizers, self.progress, self._average.values
            )
        self._last_saved = time.monotonic()

    def where_it_stands(self) -> str:
        """Says what is saved, in a sentence for an error message."""
        history = self.progress.history
        if not history and not self.progress.step:
            return "No step had been finished."
        if not history:
            saved = has_checkpoint(self.folder)
            return (
                f"What was saved last is in {self.folder}." if saved else "Nothing was saved yet."
            )
        return f"The last good checkpoint is of epoch {len(history)}, in {self.folder}."
