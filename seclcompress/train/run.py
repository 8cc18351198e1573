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

from torch import nn

from seclcompress.checkpoint import Progress
from seclcompress.data import Data
from seclcompress.errors import UnsuitableSettingsError
from seclcompress.observer import Observer
from seclcompress.optim import set_learning_rate
from seclcompress.processes import Processes
from seclcompress.settings.training import TrainingSettings
from seclcompress.slim import Lost
from seclcompress.train.average import Average
from seclcompress.train.environment import flushed_subnormals, lay_out
from seclcompress.train.first_step import far_from_chance, not_finite_at_once
from seclcompress.train.identity import identity
from seclcompress.train.judge import Judge
from seclcompress.train.objective import Objective
from seclcompress.train.order import Step, steps_of
from seclcompress.train.outputs import OutputReader
from seclcompress.train.prepare import prepared, training_presentation
from seclcompress.train.record import Record
from seclcompress.train.resume import resume, started_with
from seclcompress.train.setup import set_up
from seclcompress.train.shrinking import Shrinking
from seclcompress.train.step import NotFinite, Stepper
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
        shrinking: Which channels the network loses meanwhile; None for a network that keeps them.
        observer: Receives the progress of the run.
        processes: This process and the number of processes; by default there is one.

    Raises:
        TrainingError: If all parameters are frozen.
        DataError: If there are no images, a label is not the index of a class, or a network does not
            give one score per class.
        UsageError: If the settings name an unknown group of parameters, or have patience without
            validation images.
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
        shrinking: Shrinking | None = None,
        observer: Observer | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.processes = processes or Processes(device=settings.device)
        settings = settings.resolved(crop=data.crop, flip=data.flip)
        self.data, self.settings = data, settings
        self.observer = observer or Observer()
        started = started_with(
            settings, identity(network, teacher, data, self.processes.size, view)
        )
        self._shrinking = shrinking
        if shrinking is not None:
            started |= shrinking.identity()
        setup = set_up(
            network,
            data,
            settings,
            self.processes,
            teacher=teacher,
            view=view,
            original_parameters=original_parameters,
            outputs=outputs,
            teacher_outputs=teacher_outputs,
            observer=self.observer,
        )
        self.network, self.outputs, self.teacher = setup.network, setup.outputs, setup.teacher
        #: The weight decay that is applied to the structured factors; None for a network without any.
        self.factor_decay = setup.factor_decay
        self.optimizers, self._scaler = setup.optimizers, setup.scaler
        self._average = Average(self.network, settings.ema)
        self._record = Record(
            folder,
            self.network,
            self.optimizers,
            self._scaler,
            self._average,
            Progress(started),
            writes=self.processes.first,
            shrinking=shrinking,
        )
        self._judge = Judge(
            self.network,
            self._average,
            self._record,
            data,
            settings,
            self.outputs,
            self.processes,
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
            self._shrinking,
        )
        if self._shrinking is not None:  # narrowed layers have lost their layout
            lay_out(self.network, self.settings, self.data)

    def run(self, time_limit: float | None = None) -> list[dict[str, Any]]:
        """Trains to the last epoch.

        The state is saved after each epoch, and within an epoch every `checkpoint_seconds`.

        Args:
            time_limit: Seconds after which the run stops as if `stop` had been called.

        Returns:
            One record per epoch: epoch, train_loss, lr, seconds, loading_seconds, images_per_second, and
            test_loss, accuracy, top5_accuracy (of more than five classes). If images are held out, there
            are validation_loss and validation_accuracy instead; the test images are looked at at the
            end, with the weights of the last and of the best epoch, and those two records have both.

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
            progress.before = self._judge.before(
                self.teacher,
                self.observer,
                untrained_teacher=self._untrained_teacher,
                new_layers=self._new_layers,
            )
        if progress.before:
            self.observer.before(progress.before)
        due: Lost | None = None
        with flushed_subnormals():
            while not self._judge.is_over():
                if self._shrinking is not None and due:
                    self._shrinking.lose(due, self.optimizers, self._average.values, self.observer)
                    lay_out(self.network, settings, self.data)
                with prepared(
                    self.network, self.teacher, self.data, settings, self.processes, self.outputs
                ) as objective:
                    due = self._train_and_judge(steps, objective)
            if due is None:  # the process that did the last epoch died before the end
                self._judge.end()
        return self.history

    def _due(self, steps: int) -> Lost:
        """The channels that the network is to lose before its next step."""
        if self._shrinking is None:
            return {}
        step = len(self.history) * steps + self.progress.step
        return self._shrinking.due(step, self.settings.epochs * steps, self.observer)

    def _train_and_judge(self, steps: int, objective: Objective) -> Lost:
        """Takes steps to the end of the run, or until channels are to be lost; returns those.

        A network that is narrowed gets other parameters, and is prepared anew.
        """
        settings = self.settings
        take = Stepper(
            self.network,
            objective,
            self.optimizers,
            self._scaler,
            self.data,
            settings,
            self.processes,
        )
        while not self._judge.is_over():
            epoch = len(self.history) + 1
            due = self._train(epoch, take)
            if due:
                return due
            # Computed here, because a run resumed after an epoch's last step has not taken it.
            done = epoch - 1 + (steps - 1) / steps
            lr = set_learning_rate(self.optimizers, settings, done)
            line = self._judge.epoch(epoch, lr)
            ended = self._judge.is_over()
            if ended:
                self._judge.end()
            self.observer.epoch(line)
            if ended and epoch < settings.epochs:
                self.observer.message(
                    f"Ended after epoch {epoch} of {settings.epochs}, as none since the best was "
                    f"better on the validation images (--patience {settings.patience}); the best "
                    "epoch's network is saved."
                )
        return {}

    def _train(self, epoch: int, take: Stepper) -> Lost:
        """Takes the remaining steps of an epoch; stops before one if channels are to be lost.

        Returns:
            Those channels.
        """
        steps = self._steps(epoch)
        left = steps[self.progress.step :]
        order = [part for step in left for part in step.parts]
        presentation = training_presentation(self.data, self.settings, self.processes.device, epoch)
        batches = self.data.train.read(order, presentation)
        self.network.train()
        for step in left:
            due = self._due(len(steps))
            if due:
                return due
            began = time.monotonic()
            done = epoch - 1 + step.index / len(steps)
            lr = set_learning_rate(self.optimizers, self.settings, done)
            try:
                stepped = take(step, batches, self._asked_to_stop)
            except NotFinite as error:
                advice = (
                    f"Try a smaller --lr (it is {self.settings.lr}), --beta or --factor-lr, or a "
                    f"--warmup-epochs. {self._record.where_it_stands()}"
                )
                if step.is_first:
                    advice = not_finite_at_once(self.settings)
                raise UnsuitableSettingsError(f"{error} {advice}") from None
            if step.is_first and self.teacher is None:
                far = far_from_chance(stepped.loss, len(self.data.classes))
                if far is not None:
                    self.observer.message(far)
            if self._shrinking is not None:
                self._shrinking.press(lr, epoch)
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
        return {}

    def _steps(self, epoch: int) -> list[Step]:
        return steps_of(epoch, self.data, self.settings, self.processes)

    def _asked_to_stop(self) -> bool:
        return self._stopping or time.monotonic() > self._deadline
