"""The training loop. What a run is stands in `TrainingSettings`, what happens is told to an `Observer`.

A run is a function of its settings, its data and its networks: the order of the images, their
augmentation and dropout come from the seed, the epoch and the step. So it can stop after any step and
go on from there, and on a CPU it ends with the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from seclcompress.artefact import weights_bytes
from seclcompress.checkpoint import Progress, read_checkpoint, write_checkpoint
from seclcompress.data import Augmentation, Batch, Data, View, check_labels, plan_steps
from seclcompress.data.order import seed_of, share, shuffled
from seclcompress.errors import TrainingError
from seclcompress.files import add_file
from seclcompress.optim import (
    factor_decay,
    make_optimizers,
    set_learning_rate,
    structured_factors,
)
from seclcompress.processes import Processes
from seclcompress.settings.training import INCIDENTAL, TrainingSettings
from seclcompress.trace import floating_dtype
from seclcompress.train import batch_norm
from seclcompress.train.diagnosis import where_not_finite
from seclcompress.train.environment import flushed_subnormals, lay_out, layout
from seclcompress.train.evaluation import Evaluation, accuracy_before, evaluate
from seclcompress.train.identity import identity
from seclcompress.train.objective import Objective
from seclcompress.train.teacher import Teacher

BEST, METRICS = "best.safetensors", "metrics.jsonl"
_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Stopped(Exception):  # noqa: N818 (no error)
    """A run was asked to stop, and its state is saved."""


class Observer(Protocol):
    """Is told what happens; the command line draws it."""

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """A run of `epochs` epochs of `steps` steps begins, `finished` of all steps done before."""

    def before(self, accuracies: dict[str, float]) -> None:
        """Before the first step so much is right, in percent; only with a teacher."""

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        """A step over `images` images is done; epochs count from 1."""

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is done and saved; the record is its line of metrics.jsonl."""


class Trainer:
    """Trains one network in one folder of work in progress.

    Args:
        network: The network to train, in place.
        data: What to train and test on.
        settings: How; `taps` are taken as they are.
        folder: Where the checkpoints, the best weights and metrics.jsonl are kept.
        teacher: The network to distil from; None to train without.
        original_parameters: Of the network that this one was made from; by default its own.
        new_layers: Whether layers are untrained, so that batch norm's statistics are of other ones.
        observer: Is told what happens.
        processes: Which of how many this is.

    Raises:
        TrainingError: If nothing can be trained.
        DataError: If there are no images, or labels that are none of the classes'.
    """

    def __init__(
        self,
        network: nn.Module,
        data: Data,
        settings: TrainingSettings,
        folder: Path,
        *,
        teacher: nn.Module | None = None,
        original_parameters: int | None = None,
        new_layers: bool = False,
        observer: Observer,
        processes: Processes | None = None,
    ) -> None:
        self.processes = processes or Processes(device=settings.device)
        self.device = self.processes.device
        settings = settings.resolved(crop=data.crop, flip=data.flip)
        self.data, self.settings, self.folder, self.observer = data, settings, folder, observer
        self._identity = identity(network, teacher, data, self.processes.size)
        check_labels(data)
        self.network = lay_out(network.to(self.device), settings, data)
        self.dtype = floating_dtype(network)
        self.teacher: Teacher | None = None
        if teacher is not None:
            moved = lay_out(teacher.to(self.device), settings, data)
            self.teacher = Teacher(moved, settings.taps if settings.compares_attention else ())
        mine = sum(parameter.numel() for parameter in network.parameters())
        decay = factor_decay(settings, mine, original_parameters or mine)
        #: What the optimiser takes off the structured factors; None for a network without any.
        self.factor_decay = decay if structured_factors(network) else None
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise TrainingError(
                "All of the network's parameters are frozen: nothing can be trained."
            )
        self.optimizers = make_optimizers(network, settings, decay)
        kind = torch.device(self.device).type
        self.scaler = torch.amp.GradScaler(kind, enabled=settings.amp == "fp16")
        self.augmentation = Augmentation(
            crop=bool(settings.crop),
            flip=bool(settings.flip),
            cutout=settings.cutout,
            randaugment=settings.randaugment,
        )
        self.progress = Progress(self._settings())
        self._new_layers = new_layers
        self._stopping = False
        self._last_saved = time.monotonic()

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record a finished epoch."""
        return self.progress.history

    def stop(self) -> None:
        """Asks the run to save its state after the step it is in, and to raise `Stopped`."""
        self._stopping = True

    def resume(self) -> None:
        """Goes on where the run in this folder stopped.

        Raises:
            TrainingError: If there is none, or it was started with other settings.
        """
        progress = read_checkpoint(self.folder, self.network, self.optimizers)
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
        self.progress = progress
        if progress.scaler:
            self.scaler.load_state_dict(progress.scaler)

    def run(self) -> list[dict[str, Any]]:
        """Trains to the last epoch; the state is saved after each one, and now and then within.

        Returns:
            One record an epoch: epoch, train_loss, test_loss, accuracy, lr, seconds, images_per_second.

        Raises:
            Stopped: If `stop` was called; the state is saved.
            TrainingError: If the loss or a gradient is no longer finite.
            DataError: If an image cannot be read.
            ArtefactError: If the state cannot be saved.
        """
        settings = self.settings
        steps = len(self._steps(1))
        if steps == 0:
            raise TrainingError(
                f"{self.data.name} has too few training images ({len(self.data.train)}) for "
                f"{self.processes.size} processes that accumulate {settings.accumulate} batches."
            )
        self.observer.start(settings.epochs, steps, len(self.history) * steps + self.progress.step)
        if self.teacher is not None and not self.progress.before:
            self.progress.before = self._look_before(self.teacher)
        if self.progress.before:
            self.observer.before(self.progress.before)
        with flushed_subnormals(), self._prepared() as (forward, objective):
            for epoch in range(len(self.history) + 1, settings.epochs + 1):
                self._epoch(epoch, forward, objective)
                self._test(epoch, steps)
        return self.history

    def _look_before(self, teacher: Teacher) -> dict[str, float]:
        """What teacher and student get right before the first step, in percent of the test images."""
        settings = self.settings
        theirs = self._evaluate(teacher.network)
        mine = accuracy_before(
            self.network,
            self.data,
            settings.batch_size,
            self.processes,
            estimate_batch_norm=self._new_layers,
            workers=settings.workers,
        )
        return {"teacher": theirs.accuracy, "student before": mine.accuracy}

    def _evaluate(self, network: nn.Module) -> Evaluation:
        return evaluate(
            network,
            self.data,
            batch_size=self.settings.batch_size,
            device=self.device,
            workers=self.settings.workers,
            processes=self.processes,
        )

    def _seed(self, epoch: int, index: int) -> None:
        """Makes what a step draws, in dropout and mixup, a function of the step alone."""
        torch.manual_seed(seed_of(self.settings.seed, epoch, index, self.processes.rank, 2))

    @contextlib.contextmanager
    def _prepared(self) -> Iterator[tuple[nn.Module, Objective]]:
        """The network wrapped for several processes and compiled, as the settings say."""
        settings, several = self.settings, self.processes.size > 1
        if several and settings.sync_batch_norm:
            batch_norm.synchronise(self.network)
        forward = self.network
        if settings.compile:
            forward = torch.compile(forward)  # type: ignore[assignment]
            if self.teacher is not None:
                self.teacher.compile()
        if several:
            forward = DistributedDataParallel(forward, find_unused_parameters=True)
        still = not self.augmentation and settings.mixup == settings.cutmix == 0
        if self.teacher is not None and still and settings.asks_teacher:
            with self._autocast():
                self.teacher.remember(self.data.train, self._view(0), settings.batch_size)
        classes = len(self.data.classes)
        try:
            with Objective(self.network, forward, settings, classes, self.teacher) as objective:
                yield forward, objective
        finally:
            batch_norm.restore(self.network)

    def _steps(self, epoch: int) -> list[Tensor]:
        """The images of each step of an epoch, over all processes."""
        settings, several = self.settings, self.processes.size > 1
        together = self.processes.size * settings.accumulate
        order = shuffled(len(self.data.train), settings.seed, epoch)
        # Every batch of every process needs an image, and one that batch norm is taken over needs two.
        shared = settings.sync_batch_norm and several
        at_least = max(2, together if shared else 2 * together)
        alone = together == 1 and len(order) == 1
        return plan_steps(order, settings.batch_size * together, 1 if alone else at_least)

    def _view(self, epoch: int) -> View:
        return View(
            self.data.input_size,
            self.data.preprocessing,
            self.augmentation,
            self.settings.seed,
            epoch,
            self.device,
            self.settings.workers,
        )

    def _epoch(self, epoch: int, forward: nn.Module, objective: Objective) -> None:
        """The steps of an epoch that are still to be done."""
        processes, progress = self.processes, self.progress
        steps = self._steps(epoch)
        parts = [
            share(step, processes.size, processes.rank, self.settings.accumulate) for step in steps
        ]
        order = [part for of_step in parts[progress.step :] for part in of_step]
        batches = self.data.train.read(order, self._view(epoch))
        self.network.train()
        for index in range(progress.step, len(steps)):
            began = time.monotonic()
            done = epoch - 1 + index / len(steps)
            lr = set_learning_rate(self.optimizers, self.settings, done)
            count = len(steps[index])
            self._seed(epoch, index)
            loss, images, stopping = self._step(
                epoch, index, batches, len(parts[index]), count, forward, objective
            )
            progress.step, progress.images = index + 1, progress.images + images
            progress.loss += loss * images
            progress.seconds += time.monotonic() - began
            self.observer.step(epoch, images, loss, lr)
            # What one process is told, the others learn at the end of the next step.
            stopping = stopping or (self._stopping and processes.size == 1)
            late = time.monotonic() - self._last_saved > self.settings.checkpoint_seconds
            if stopping or late:
                self._save()
            if stopping:
                processes.wait()
                raise Stopped

    def _step(
        self,
        epoch: int,
        index: int,
        batches: Iterator[Batch],
        parts: int,
        count: int,
        forward: nn.Module,
        objective: Objective,
    ) -> tuple[float, int, bool]:
        """One step of the optimisers over `parts` batches of this process.

        Returns:
            The mean loss over the images of all processes, how many they were (of `count`, if some
            cannot be read and are left out), and whether any process was told to stop.
        """
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        read: list[Batch] = []
        for part in range(parts):
            began = time.monotonic()
            batch = next(batches)
            self.progress.loading += time.monotonic() - began
            batch = batch._replace(images=self._laid_out(batch.images))
            read.append(batch)
            last = part == parts - 1
            # DDP averages over processes what should be added up, each image once.
            weight = len(batch.targets) / count * self.processes.size
            with self._together(forward, last):
                with self._autocast(), self._words(epoch, index, batch):
                    loss = objective(batch) * weight
                total += loss.detach() / self.processes.size
                penalty = objective.penalty() if last else None
                loss = loss if penalty is None else loss + penalty
                self.scaler.scale(loss).backward()
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        told = total.new_tensor([sum(len(batch.targets) for batch in read), self._stopping])
        summed, images, stop = self.processes.total(torch.stack([total, *told])).tolist()
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        if images != count:  # some could not be read
            torch._foreach_mul_(gradients, count / images)
        value = summed * count / images
        if not math.isfinite(value) or self._lost(gradients):
            raise TrainingError(
                f"{'A gradient is not finite' if math.isfinite(value) else f'The loss is {value}'} at "
                f"step {index + 1} of epoch {epoch}. "
                f"{where_not_finite(self.network, self._passes(epoch, index, read, objective))} Try a "
                f"smaller --lr (it is {self.settings.lr}), --beta or --factor-lr, or a "
                f"--warmup-epochs. {self._where_it_stands()}"
            )
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        return value, int(images), stop > 0

    def _lost(self, gradients: list[Tensor]) -> bool:
        """Whether gradients are not finite, and not only because fp16's scale is still too large."""
        if bool(torch.nn.utils.get_total_norm(gradients).isfinite()):
            return False
        return not self.scaler.is_enabled() or self.scaler.get_scale() <= 1

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.to(self.dtype).contiguous(memory_format=layout(self.settings, self.data))

    def _together(self, forward: nn.Module, last: bool) -> Any:
        """Gradients travel between processes once a step."""
        if isinstance(forward, DistributedDataParallel) and not last:
            return forward.no_sync()
        return contextlib.nullcontext()

    def _autocast(self) -> Any:
        kind = torch.device(self.device).type
        amp = self.settings.amp
        return torch.autocast(kind, _AMP.get(amp, torch.bfloat16), enabled=amp != "off")

    @contextlib.contextmanager
    def _words(self, epoch: int, index: int, batch: Batch) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:  # whoever asked for the run knows what to say to that
            raise
        except (ValueError, RuntimeError) as error:  # torch's own words say what does not fit
            raise TrainingError(
                f"The network cannot train on {len(batch.targets)} images of "
                f"{tuple(batch.images.shape[1:])} (step {index + 1} of epoch {epoch}): {error}"
            ) from error

    def _passes(
        self, epoch: int, index: int, read: list[Batch], objective: Objective
    ) -> Iterator[Callable[[], object]]:
        """The forward passes of a step once more, with the same random numbers."""
        for batch in read:
            self._seed(epoch, index)
            with self._autocast():
                yield functools.partial(objective.again, batch)

    def _test(self, epoch: int, steps: int) -> None:
        """The end of an epoch: test images, best weights, a line of metrics, a checkpoint."""
        progress, settings = self.progress, self.settings
        self.processes.share_buffers(self.network)  # without synchronised batch norm they differ
        began = time.monotonic()
        tested = self._evaluate(self.network)
        if not math.isfinite(tested.loss):
            raise TrainingError(
                f"The loss on the test images is {tested.loss} after epoch {epoch}. Try a smaller "
                f"--lr (it is {settings.lr}). {self._where_it_stands()}"
            )
        # Asked anew: a run that goes on here has not done the epoch's last step itself.
        lr = set_learning_rate(self.optimizers, settings, epoch - 1 + (steps - 1) / steps)
        record = {
            "epoch": epoch,
            "train_loss": progress.loss / progress.images,
            "test_loss": tested.loss,
            "accuracy": tested.accuracy,
            "top5_accuracy": tested.top5_accuracy,
            "lr": lr,
            "seconds": round(progress.seconds + time.monotonic() - began, 3),
            "loading_seconds": round(progress.loading, 3),
            "images_per_second": round(progress.images / max(progress.seconds, 1e-9), 1),
        }
        best = max((earlier["accuracy"] for earlier in self.history), default=-math.inf)
        if record["accuracy"] > best and self.processes.first:
            add_file(self.folder, BEST, weights_bytes(self.network))
        self.history.append(record)
        progress.step, progress.images, progress.loss = 0, 0, 0.0
        progress.seconds, progress.loading = 0.0, 0.0
        if self.processes.first:
            lines = "".join(json.dumps(line) + "\n" for line in self.history)
            add_file(self.folder, METRICS, lines.encode())
        # The checkpoint comes last: a run that dies in between does the epoch's test again.
        self._save()
        self.observer.epoch(record)

    def _save(self) -> None:
        if self.processes.first:
            self.progress.scaler = self.scaler.state_dict()
            write_checkpoint(self.folder, self.network, self.optimizers, self.progress)
        self._last_saved = time.monotonic()

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = json.loads(
            self.settings.model_dump_json(exclude=set(INCIDENTAL))
        )
        return {**settings, **self._identity}

    def _where_it_stands(self) -> str:
        if not self.history and not self.progress.step:
            return "No step had been finished."
        if not self.history:
            return f"What was saved last is in {self.folder}."
        return f"The last good checkpoint is of epoch {len(self.history)}, in {self.folder}."
