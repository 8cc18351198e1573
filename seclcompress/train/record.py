"""The files of a run in its folder: one line of metrics per epoch, the best weights, checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from seclcompress.artefact import weights_bytes
from seclcompress.checkpoint import Progress, has_checkpoint, write_checkpoint
from seclcompress.files import add_file
from seclcompress.networks.weights import put_state
from seclcompress.train.average import Average
from seclcompress.train.evaluation import Evaluation
from seclcompress.train.shrinking import Shrinking

#: What a record and a folder's metrics have in addition if images are held out.
VALIDATION = ("validation_loss", "validation_accuracy")
BEST, METRICS = "best.safetensors", "metrics.jsonl"


def best_of(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The best epoch, of equal ones the first: by the validation images, or else by the test images.

    Args:
        history: One record per epoch, as in metrics.jsonl; at least one.
    """
    return max(history, key=chosen_by)


def has_best(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a run has a best epoch: one whose network lost channels meanwhile has none.

    Args:
        history: One record per epoch; at least one.
    """
    return "parameters" not in history[-1]


def chosen_by(record: Mapping[str, Any]) -> float:
    """The accuracy that a run is judged by: on held-out images if there are any, or on the test images.

    Args:
        record: An epoch's line of metrics.jsonl.
    """
    held_out = "validation_accuracy" in record
    return float(record["validation_accuracy" if held_out else "accuracy"])


def saved_of(history: Sequence[Mapping[str, Any]], patience: int | None) -> Mapping[str, Any]:
    """The epoch whose network a run saves: the best with patience, the last without.

    Args:
        history: One record per epoch; at least one.
        patience: The setting.
    """
    return history[-1] if patience is None else best_of(history)


def is_over(history: Sequence[Mapping[str, Any]], epochs: int, patience: int | None) -> bool:
    """Whether a run has done all its epochs, or as many without a better one as it has patience for.

    Args:
        history: One record per finished epoch.
        epochs: The setting.
        patience: The setting; None for a run that does all its epochs.
    """
    if not history or patience is None:
        return len(history) == epochs
    return len(history) == epochs or len(history) - best_of(history)["epoch"] >= patience


def of_test(tested: Evaluation) -> dict[str, float]:
    """What an epoch's line says of the test images."""
    top5 = {} if tested.top5_accuracy is None else {"top5_accuracy": tested.top5_accuracy}
    return {"test_loss": tested.loss, "accuracy": tested.accuracy, **top5}


def of_validation(validated: Evaluation) -> dict[str, float]:
    """What an epoch's line says of the validation images."""
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
        shrinking: Which channels the network loses meanwhile; None for a network that keeps them. There
            is no best epoch among networks of different sizes, so it has no best weights.
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
        shrinking: Shrinking | None = None,
    ) -> None:
        self.folder, self.progress = folder, progress
        self._shrinking = shrinking
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
        figures: Mapping[str, float],
        lr: float,
        seconds: float,
    ) -> dict[str, Any]:
        """Adds a finished epoch to the history and writes the epoch's files.

        Args:
            epoch: The number of the finished epoch, from 1.
            figures: The network's figures on the images that judge it, from `of_test` or
                `of_validation`.
            lr: The learning rate of the epoch's last step.
            seconds: Seconds that the evaluation took.

        Returns:
            The epoch's line of metrics.jsonl.

        Raises:
            ArtefactError: If a file cannot be written.
        """
        progress = self.progress
        line = {
            "epoch": epoch,
            "train_loss": progress.loss / progress.images,
            **figures,
            **({} if self._shrinking is None else asdict(self._shrinking.figures)),
            "lr": lr,
            "seconds": round(progress.seconds + seconds, 3),
            "loading_seconds": round(progress.loading, 3),
            "images_per_second": round(progress.images / max(progress.seconds, 1e-9), 1),
        }
        progress.history.append(line)
        # Of equal ones, the first is the best.
        if best_of(progress.history) is line and self._writes and self._shrinking is None:
            with self._average.shown():
                best = weights_bytes(self._network)
            add_file(self.folder, BEST, best)
        progress.step, progress.images, progress.loss = 0, 0, 0.0
        progress.seconds, progress.loading = 0.0, 0.0
        if self._writes:
            self._write_metrics()
        # The checkpoint is written last, so that a run that dies before it repeats the end of the epoch
        # and writes the other files again.
        self.save()
        return line

    def add_tests(self, found: Mapping[int, Evaluation], seconds: float) -> None:
        """Adds what the test images showed at the end of a run to the lines of the epochs.

        Args:
            found: The figures by the number of the epoch, from 1.
            seconds: Seconds that they took.

        Raises:
            ArtefactError: If the file cannot be written.
        """
        history = self.progress.history
        for epoch, tested in found.items():
            history[epoch - 1].update(of_test(tested))
        history[-1]["seconds"] = round(history[-1]["seconds"] + seconds, 3)
        if self._writes:
            self._write_metrics()

    @property
    def best_epoch(self) -> int:
        """The number of the epoch, from 1, whose weights `load_best` loads; the last without such."""
        history = self.progress.history
        return len(history) if self._shrinking is not None else int(best_of(history)["epoch"])

    def load_best(self) -> None:
        """Gives the network the weights of the best epoch; only in the process that writes."""
        if self._writes:
            put_state(self._network, safetensors.torch.load_file(self.folder / BEST))

    def _write_metrics(self) -> None:
        lines = "".join(json.dumps(line) + "\n" for line in self.progress.history)
        add_file(self.folder, METRICS, lines.encode())

    def save(self) -> None:
        """Writes a checkpoint.

        Raises:
            ArtefactError: If it cannot be written; the earlier one is then still there.
        """
        if self._writes:
            self.progress.scaler = self._scaler.state_dict()
            if self._shrinking is not None:
                self.progress.shrinking = self._shrinking.state()
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
