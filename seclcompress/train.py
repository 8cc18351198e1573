"""The training loop: with a teacher it distils, without one it trains. It computes and never prints.

Room is left for more processes, other precisions and other losses: a run is `Settings`, what happens
is told to an `Observer`, what must survive is in `checkpoint`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.artefact import weights_bytes
from seclcompress.checkpoint import Progress, read_checkpoint, write_checkpoint
from seclcompress.data import Data, batches, loader
from seclcompress.errors import TrainingError
from seclcompress.files import write_file
from seclcompress.losses import AUXILIARY_WEIGHT, attention_transfer, knowledge_distillation
from seclcompress.optim import SCHEDULES, make_optimizer, parameter_groups
from seclcompress.taps import Taps
from seclcompress.trace import eval_mode, floating_dtype

CHECKPOINT, BEST, METRICS = "checkpoint.safetensors", "best.safetensors", "metrics.jsonl"


class Settings(BaseModel):
    """How to train. The defaults are the authors' recipe for CIFAR-10.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images a step.
        lr: The highest learning rate.
        optimizer: `sgd` with momentum, or `adamw`.
        momentum: Of SGD.
        weight_decay: Of everything but the structured factors.
        factor_decay: Of the structured factors.
        schedule: How the learning rate falls: `cosine`, or `step` (× 0.2 at 30, 60, 80 %).
        alpha: The share of knowledge distillation in the loss on the classes.
        beta: The weight of attention transfer.
        temperature: Of knowledge distillation.
        taps: Modules whose attention is compared.
        amp: Whether to compute in bfloat16 where that is safe.
        seed: Of all random numbers.
        device: Where to train.
        workers: Processes that load images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=200, ge=1)
    batch_size: int = Field(default=128, ge=1)
    lr: float = Field(default=0.1, gt=0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    factor_decay: float = Field(default=8.8e-6, ge=0)
    schedule: Literal["cosine", "step"] = "cosine"
    alpha: float = Field(default=0.0, ge=0, le=1)
    beta: float = Field(default=1000.0, ge=0)
    temperature: float = Field(default=4.0, gt=0)
    taps: tuple[str, ...] = ()
    amp: bool = False
    seed: int = Field(default=0, ge=0, lt=2**32)
    device: str = "cpu"
    workers: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Evaluation:
    """How well a network does on test images.

    Attributes:
        accuracy: Top-1, in percent.
        top5_accuracy: How often the right class is among the five with the highest scores, in
            percent; of fewer classes, among all.
        loss: Mean cross-entropy.
        images: How many there were.
    """

    accuracy: float
    top5_accuracy: float
    loss: float
    images: int


class Observer(Protocol):
    """Is told what happens; the command line draws it."""

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """A run of `epochs` epochs of `steps` steps begins, `finished` of them done before."""

    def step(self, epoch: int, images: int, loss: float) -> None:
        """A step over `images` images is done; epochs count from 1."""

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is done and saved; the record is its line of metrics.jsonl."""


def logits(output: Any) -> tuple[Tensor, list[Tensor]]:
    """A network's class scores, and those of auxiliary heads that only run in training."""
    if isinstance(output, Tensor):
        return output, []
    parts = list(output.values()) if isinstance(output, dict) else list(output)
    tensors = [part for part in parts if isinstance(part, Tensor)]
    return tensors[0], tensors[1:]


def evaluate(
    network: nn.Module, data: Data, *, batch_size: int = 128, device: str = "cpu", workers: int = 0
) -> Evaluation:
    """Accuracy and loss on the test images, in eval mode; the network's modes are restored.

    Args:
        network: On `device`.
        data: Whose test images.
        batch_size: Images at once.
        device: Where to compute.
        workers: Processes that load images.

    Raises:
        DataError: If an image cannot be read.
    """
    right, among_five, loss, count = 0, 0, 0.0, 0
    with eval_mode(network), torch.no_grad():
        source = loader(data.test, batch_size, shuffle=False, workers=workers, device=device)
        for images, targets in batches(source, data.name):
            images = images.to(device, floating_dtype(network), non_blocking=True)
            scores, _ = logits(network(images))
            targets = targets.to(device, non_blocking=True)
            best = scores.topk(min(5, scores.shape[1]), dim=1).indices
            right += int((best[:, 0] == targets).sum())
            among_five += int((best == targets[:, None]).sum())
            loss += float(F.cross_entropy(scores, targets, reduction="sum"))
            count += len(targets)
    return Evaluation(100 * right / count, 100 * among_five / count, loss / count, count)


def _fingerprint(network: nn.Module) -> str:
    return hashlib.sha256(weights_bytes(network)).hexdigest()[:16]


class Trainer:
    """Trains one network in one folder of work in progress.

    Args:
        network: The network to train, in place.
        data: What to train and test on.
        settings: How.
        folder: Where the checkpoint, the best weights and metrics.jsonl are kept.
        teacher: The network to distil from; None to train without.
        observer: Is told what happens.
    """

    def __init__(
        self,
        network: nn.Module,
        data: Data,
        settings: Settings,
        folder: Path,
        *,
        teacher: nn.Module | None = None,
        observer: Observer,
    ) -> None:
        self.network = network.to(settings.device)
        self.teacher = None if teacher is None else teacher.to(settings.device).eval()
        self.data, self.settings, self.folder, self.observer = data, settings, folder, observer
        self.dtype = floating_dtype(network)
        groups = parameter_groups(network, settings.weight_decay, settings.factor_decay)
        self.optimizer = make_optimizer(settings.optimizer, groups, settings.lr, settings.momentum)
        self.history: list[dict[str, Any]] = []
        # What a run is, beside its settings; a checkpoint goes on with nothing else.
        self.start = {
            "data": data.name,
            "input_size": list(data.input_size),
            "network": _fingerprint(network),
            "teacher": None if teacher is None else _fingerprint(teacher),
        }

    def resume(self) -> None:
        """Goes on where the run in this folder stopped.

        Raises:
            TrainingError: If there is none, or it was started with other settings.
        """
        path = self.folder / CHECKPOINT
        if not path.is_file():
            raise TrainingError(f"There is no interrupted run in {self.folder} to go on with.")
        progress = read_checkpoint(path, self.network, self.optimizer)
        mine = self._settings()
        different = sorted(
            f"{key} was {progress.settings.get(key)!r}, not {mine.get(key)!r}"
            for key in mine.keys() | progress.settings.keys()
            if mine.get(key) != progress.settings.get(key)
        )
        if different:
            raise TrainingError(
                f"The run in {self.folder} was started with other settings: {'; '.join(different)}. "
                "Resume it with the same ones, or start anew with --overwrite."
            )
        self.history = progress.history

    def run(self) -> list[dict[str, Any]]:
        """Trains to the last epoch; after each one the state is saved.

        Returns:
            One record an epoch: epoch, train_loss, test_loss, accuracy, lr, seconds.

        Raises:
            TrainingError: If the loss is no longer finite.
            DataError: If an image cannot be read.
            ArtefactError: If the state cannot be saved.
        """
        settings = self.settings
        source = loader(
            self.data.train,
            settings.batch_size,
            shuffle=True,
            workers=settings.workers,
            device=settings.device,
        )
        steps = len(source)
        if steps == 0:
            raise TrainingError(
                f"{self.data.name} has too few training images for a batch of {settings.batch_size}."
            )
        self.observer.start(settings.epochs, steps, len(self.history))
        # Products of many small factors become subnormal numbers, on which a CPU is slow.
        torch.set_flush_denormal(True)
        for epoch in range(len(self.history) + 1, settings.epochs + 1):
            torch.manual_seed(settings.seed * 1_000_003 + epoch)
            began = time.monotonic()
            loss = self._epoch(epoch, batches(source, self.data.name), steps)
            tested = evaluate(
                self.network,
                self.data,
                batch_size=settings.batch_size,
                device=settings.device,
                workers=settings.workers,
            )
            if not math.isfinite(tested.loss):
                raise TrainingError(
                    f"The loss on the test images is {tested.loss} after epoch {epoch}. Try a smaller "
                    f"--lr (it is {settings.lr}). {self._where_it_stands()}"
                )
            self._finish(
                {
                    "epoch": epoch,
                    "train_loss": loss,
                    "test_loss": tested.loss,
                    "accuracy": tested.accuracy,
                    "lr": self.optimizer.param_groups[0]["lr"],
                    "seconds": round(time.monotonic() - began, 3),
                }
            )
        return self.history

    def _epoch(self, epoch: int, source: Any, steps: int) -> float:
        """One pass over the training images; returns the mean loss."""
        settings = self.settings
        schedule = SCHEDULES[settings.schedule]
        total, seen = 0.0, 0
        self.network.train()
        with self._taps(self.network) as mine, self._taps(self.teacher) as theirs:
            for index, (images, targets) in enumerate(source):
                done = (epoch - 1 + index / steps) / settings.epochs
                for group in self.optimizer.param_groups:
                    group["lr"] = settings.lr * schedule(done)
                images = images.to(settings.device, self.dtype, non_blocking=True)
                targets = targets.to(settings.device, non_blocking=True)
                try:
                    with torch.autocast(
                        torch.device(settings.device).type, torch.bfloat16, enabled=settings.amp
                    ):
                        loss = self._loss(images, targets, mine, theirs)
                except (
                    ValueError,
                    RuntimeError,
                ) as error:  # torch's own words say what does not fit
                    raise TrainingError(
                        f"The network cannot train on {len(targets)} images of "
                        f"{tuple(images.shape[1:])} (step {index + 1} of epoch {epoch}): {error}"
                    ) from error
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise TrainingError(
                        f"The loss is {value} at step {index + 1} of epoch {epoch}. Try a smaller "
                        f"--lr (it is {settings.lr}) or --beta. " + self._where_it_stands()
                    )
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                total, seen = total + value * len(targets), seen + len(targets)
                self.observer.step(epoch, len(targets), value)
        return total / seen

    def _taps(self, network: nn.Module | None) -> Any:
        if network is None or self.teacher is None or self.settings.beta == 0:
            return contextlib.nullcontext()
        return Taps(network, self.settings.taps)

    def _loss(
        self, images: Tensor, targets: Tensor, mine: Taps | None, theirs: Taps | None
    ) -> Tensor:
        scores, auxiliary = logits(self.network(images))
        settings = self.settings
        if self.teacher is None:
            loss = F.cross_entropy(scores, targets)
        else:
            with torch.no_grad():
                wanted, _ = logits(self.teacher(images.to(floating_dtype(self.teacher))))
            loss = knowledge_distillation(
                scores, wanted, targets, settings.alpha, settings.temperature
            )
            if mine is not None and theirs is not None and settings.taps:
                loss = loss + attention_transfer(mine.take(), theirs.take(), settings.beta)
        for scores_of_auxiliary in auxiliary:
            loss = loss + AUXILIARY_WEIGHT * F.cross_entropy(scores_of_auxiliary, targets)
        return loss

    def _finish(self, record: dict[str, Any]) -> None:
        """Saves what an epoch has reached: the best weights, the line, the checkpoint, in that order.

        The checkpoint comes last: a run that dies in between does the epoch again.
        """
        best = max((earlier["accuracy"] for earlier in self.history), default=-math.inf)
        if record["accuracy"] > best:
            write_file(self.folder / BEST, weights_bytes(self.network))
        self.history.append(record)
        lines = "".join(json.dumps(line) + "\n" for line in self.history)
        write_file(self.folder / METRICS, lines.encode())
        progress = Progress(self._settings(), self.history)
        write_checkpoint(self.folder / CHECKPOINT, self.network, self.optimizer, progress)
        self.observer.epoch(record)

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = json.loads(self.settings.model_dump_json())
        del settings["device"]  # where it is computed may change between two halves of a run
        return {**settings, **self.start}

    def _where_it_stands(self) -> str:
        if not self.history:
            return "No epoch had been finished."
        return f"The last good checkpoint is of epoch {len(self.history)}, in {self.folder}."
