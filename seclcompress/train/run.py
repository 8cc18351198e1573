"""A training run: its epochs and steps, its checkpoints, and the points at which it can stop.

`TrainingSettings` define a run; an `Observer` receives its progress.

The result of a run is a function of its settings, data and networks. The order of the images, their
augmentation and dropout depend only on the seed, the epoch and the step. So a run can stop after any
step and resume from there. On a CPU, the resumed run ends with the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seclcompress.checkpoint import Progress
from seclcompress.data import Data, Images, check_labels
from seclcompress.errors import TrainingError, UnsuitableSettingsError
from seclcompress.observer import Observer
from seclcompress.optim import (
    FACTORS,
    factor_decay,
    make_optimizers,
    parameter_groups,
    set_learning_rate,
)
from seclcompress.processes import Processes
from seclcompress.settings.training import TrainingSettings
from seclcompress.train.average import Average
from seclcompress.train.environment import flushed_subnormals, lay_out
from seclcompress.train.evaluation import Evaluation, accuracy_before, evaluate
from seclcompress.train.identity import identity
from seclcompress.train.order import Step, steps_of
from seclcompress.train.outputs import OutputReader, read_outputs
from seclcompress.train.prepare import prepared, training_presentation
from seclcompress.train.record import Record
from seclcompress.train.resume import resume, started_with
from seclcompress.train.step import NotFinite, Stepper
from seclcompress.train.teacher import Teacher, check_teacher
from seclcompress.train.view import View


class Stopped(Exception):  # noqa: N818 (no error)
    """A run stopped as asked; its state is saved."""


class Trainer:
    """Trains one network, with one folder for the files of the run in progress.

    Args:
        network: The network, trained in place.
        data: The data set to train and test on.
        settings: The training settings. Empty `taps` mean no attention transfer.
        folder: The folder for checkpoints, the best weights and metrics.jsonl.
        teacher: The network to distill from; None to train without a teacher.
        view: How the teacher sees the student's images; None for as the student does.
        untrained_teacher: Whether the teacher may be no better than chance on the test images.
        original_parameters: The number of parameters of the original network; by default that of
            `network`.
        outputs: Picks the class scores out of the network's outputs; by default found here.
        teacher_outputs: The same for the teacher.
        new_layers: Whether the network has untrained layers. Batch norm's running statistics then come
            from the original's layers and are estimated again for the accuracy before training.
        observer: Receives the progress of the run.
        processes: This process and the number of processes; by default there is one.

    Raises:
        TrainingError: If all parameters are frozen.
        DataError: If there are no images, a label is not the index of a class, or a network does not
            give one score per class.
        UsageError: If the settings name an unknown group of parameters.
    """

    def __init__(
        self,
        network: nn.Module,
        data: Data,
        settings: TrainingSettings,
        folder: Path,
        *,
        teacher: nn.Module | None = None,
        view: View | None = None,
        untrained_teacher: bool = False,
        original_parameters: int | None = None,
        outputs: OutputReader | None = None,
        teacher_outputs: OutputReader | None = None,
        new_layers: bool = False,
        observer: Observer | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.processes = processes or Processes(device=settings.device)
        device = self.processes.device
        settings = settings.resolved(crop=data.crop, flip=data.flip)
        self.data, self.settings = data, settings
        self.observer = observer or Observer()
        started = started_with(
            settings, identity(network, teacher, data, self.processes.size, view)
        )
        check_labels(data)
        self.outputs = outputs or read_outputs(network, data, "the network", self.observer)
        self.network = lay_out(network.to(device), settings, data)
        self.teacher: Teacher | None = None
        if teacher is not None:
            size = None if view is None else view.input_size
            read = teacher_outputs or read_outputs(
                teacher, data, "the teacher", self.observer, size
            )
            moved = lay_out(teacher.to(device), settings, data)
            taps = settings.taps if settings.compares_attention else ()
            self.teacher = Teacher(moved, taps, read, view)
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise TrainingError(
                "All of the network's parameters are frozen: nothing can be trained."
            )
        mine = sum(parameter.numel() for parameter in network.parameters())
        decay = factor_decay(settings, mine, original_parameters or mine)
        #: The weight decay that is applied to the structured factors; None for a network without any.
        self.factor_decay = decay if FACTORS in parameter_groups(network) else None
        self.optimizers = make_optimizers(network, settings, decay)
        kind = torch.device(device).type
        self._scaler = torch.amp.GradScaler(kind, enabled=settings.amp == "fp16")
        self._average = Average(self.network, settings.ema)
        self._record = Record(
            folder,
            self.network,
            self.optimizers,
            self._scaler,
            self._average,
            Progress(started),
            writes=self.processes.first,
        )
        self._new_layers, self._untrained_teacher = new_layers, untrained_teacher
        self._stopping, self._deadline = False, math.inf

    @property
    def progress(self) -> Progress:
        """How far the run has come."""
        return self._record.progress

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record per finished epoch."""
        return self.progress.history

    def stop(self) -> None:
        """Asks the run to save its state after the current step and to raise `Stopped`."""
        self._stopping = True

    def resume(self) -> None:
        """Loads the checkpoint in the folder, from which `run` continues.

        Raises:
            TrainingError: If there is no checkpoint that can be read, or its run was started with
                different settings, networks or images.
        """
        self._record.progress = resume(
            self._record.folder,
            self.network,
            self.optimizers,
            self._scaler,
            self._average,
            self.progress.settings,
        )

    def run(self, time_limit: float | None = None) -> list[dict[str, Any]]:
        """Trains to the last epoch.

        The state is saved after each epoch, and within an epoch every `checkpoint_seconds`.

        Args:
            time_limit: Seconds after which the run stops as if `stop` had been called.

        Returns:
            One record per epoch: epoch, train_loss, test_loss, accuracy, top5_accuracy (of more than
            five classes), validation_loss and validation_accuracy (if images are held out), lr, seconds,
            loading_seconds, images_per_second.

        Raises:
            Stopped: If `stop` was called or the time limit is reached; the state is saved.
            UnsuitableSettingsError: If the loss or a gradient is no longer finite, there are too few
                images for one step, or the network cannot train on as many images as a batch has.
            TrainingError: If the teacher is no better than chance.
            DataError: If an image cannot be read.
            ArtefactError: If the state cannot be saved.
        """
        settings, progress = self.settings, self.progress
        self._deadline = math.inf if time_limit is None else time.monotonic() + time_limit
        steps = len(self._steps(1))
        if steps == 0:
            raise UnsuitableSettingsError(
                f"{self.data.name} has too few training images ({len(self.data.train)}) for "
                f"{self.processes.size} processes that accumulate {settings.accumulate} batches."
            )
        self.observer.start(settings.epochs, steps, len(self.history) * steps + progress.step)
        if self.teacher is not None and not progress.before:
            progress.before = self._look_before(self.teacher)
        if progress.before:
            self.observer.before(progress.before)
        with (
            flushed_subnormals(),
            prepared(
                self.network, self.teacher, self.data, settings, self.processes, self.outputs
            ) as objective,
        ):
            take = Stepper(
                self.network,
                objective,
                self.optimizers,
                self._scaler,
                self.data,
                settings,
                self.processes,
            )
            for epoch in range(len(self.history) + 1, settings.epochs + 1):
                self._train(epoch, take)
                self._test(epoch, steps)
        self._average.put()
        return self.history

    def _look_before(self, teacher: Teacher) -> dict[str, float]:
        """The accuracies of teacher and student before the first step, in percent of the test images."""
        theirs = self._evaluate(teacher.network, teacher.read)
        if self.settings.asks_teacher and not self._untrained_teacher:
            check_teacher(theirs, self.data)
        if self._new_layers:
            self.observer.message(
                "The student's accuracy before the first step is that with batch norm's statistics "
                "estimated anew from training images, which evaluate does not do."
            )
        mine = accuracy_before(
            self.network,
            self.data,
            self.settings.batch_size,
            self.processes,
            read=self.outputs,
            estimate_batch_norm=self._new_layers,
            workers=self.settings.workers,
        )
        return {"teacher": theirs.accuracy, "before": mine.accuracy}

    def _train(self, epoch: int, take: Stepper) -> None:
        """Takes the remaining steps of an epoch."""
        steps = self._steps(epoch)
        left = steps[self.progress.step :]
        order = [part for step in left for part in step.parts]
        presentation = training_presentation(self.data, self.settings, self.processes.device, epoch)
        batches = self.data.train.read(order, presentation)
        self.network.train()
        for step in left:
            began = time.monotonic()
            done = epoch - 1 + step.index / len(steps)
            lr = set_learning_rate(self.optimizers, self.settings, done)
            try:
                stepped = take(step, batches, self._asked_to_stop)
            except NotFinite as error:
                raise UnsuitableSettingsError(
                    f"{error} Try a smaller --lr (it is {self.settings.lr}), --beta or --factor-lr, "
                    f"or a --warmup-epochs. {self._record.where_it_stands()}"
                ) from None
            self._average.update((epoch - 1) * len(steps) + step.index)
            seconds = time.monotonic() - began
            self._record.add_step(stepped.images, stepped.loss, seconds, stepped.loading)
            self.observer.step(epoch, stepped.images, stepped.loss, lr)
            # With several processes, all must stop after the same step. `stepped.stopping` says whether
            # any process was asked to stop before the end of this step; a later request counts at the
            # next step.
            alone = self.processes.size == 1
            stopping = stepped.stopping or (alone and self._asked_to_stop())
            if stopping or self._record.seconds_since_save > self.settings.checkpoint_seconds:
                self._record.save()
            if stopping:
                self.processes.wait()
                raise Stopped

    def _test(self, epoch: int, steps: int) -> None:
        """Ends an epoch: evaluates test and validation images and writes the epoch's files."""
        # Running statistics differ between processes unless batch norm is synchronised.
        self.processes.share([*self.network.buffers(), *self._average.statistics()])
        began = time.monotonic()
        held = self.data.validation
        with self._average.shown():
            tested = self._evaluate(self.network, self.outputs)
            validated = None if held is None else self._evaluate(self.network, self.outputs, held)
        for part, found in (("test", tested), ("validation", validated)):
            if found is not None and not math.isfinite(found.loss):
                raise UnsuitableSettingsError(
                    f"The loss on the {part} images is {found.loss} after epoch {epoch}. Try a smaller "
                    f"--lr (it is {self.settings.lr}). {self._record.where_it_stands()}"
                )
        # Computed again, because a run resumed after the epoch's last step has not taken that step.
        lr = set_learning_rate(self.optimizers, self.settings, epoch - 1 + (steps - 1) / steps)
        seconds = time.monotonic() - began
        self.observer.epoch(self._record.add_epoch(epoch, tested, lr, seconds, validated))

    def _steps(self, epoch: int) -> list[Step]:
        return steps_of(epoch, self.data, self.settings, self.processes)

    def _evaluate(
        self, network: nn.Module, read: OutputReader, images: Images | None = None
    ) -> Evaluation:
        return evaluate(
            network,
            self.data,
            images=images,
            read=read,
            batch_size=self.settings.batch_size,
            device=self.processes.device,
            workers=self.settings.workers,
            processes=self.processes,
        )

    def _asked_to_stop(self) -> bool:
        return self._stopping or time.monotonic() > self._deadline
