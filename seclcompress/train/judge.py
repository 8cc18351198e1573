"""What a run looks at beside its steps: before the first one, after each epoch, and at the end.

Without validation images each epoch is judged by the test images, which flatters the best one. With
them, nothing is chosen by the test images: they are looked at once, at the end.
"""

from __future__ import annotations

import math
import time
from typing import Any

from torch import nn

from seclcompress.data import Data, Images
from seclcompress.errors import UnsuitableSettingsError, UsageError
from seclcompress.networks.weights import put_state
from seclcompress.observer import Observer
from seclcompress.processes import Processes
from seclcompress.settings.training import TrainingSettings
from seclcompress.train.average import Average
from seclcompress.train.evaluation import Evaluation, accuracy_before, evaluate
from seclcompress.train.outputs import OutputReader
from seclcompress.train.record import Record, is_over, of_test, of_validation
from seclcompress.train.teacher import Teacher, check_teacher


class Judge:
    """Evaluates the network of a run, and says when the run is over.

    Args:
        network: The network on this process's device.
        average: The moving average of its weights.
        record: The record of the run, which the figures are added to.
        data: The data set.
        settings: The training settings.
        read: Picks the class scores out of the network's outputs.
        processes: This process and the number of processes.

    Raises:
        UsageError: If there is patience without validation images.
    """

    def __init__(
        self,
        network: nn.Module,
        average: Average,
        record: Record,
        data: Data,
        settings: TrainingSettings,
        read: OutputReader,
        processes: Processes,
    ) -> None:
        self._network, self._average, self._record = network, average, record
        self._data, self._settings, self._read = data, settings, read
        self._processes = processes
        if settings.patience is not None and data.validation is None:
            raise UsageError(
                f"--patience {settings.patience}: no images are held out of {data.name} beside its test "
                "images, which must not decide when a run ends. Add --validation, and test images to a "
                "folder that has none; or drop --patience."
            )

    def is_over(self) -> bool:
        """Whether the epochs are done, or the patience is at its end."""
        history = self._record.progress.history
        return is_over(history, self._settings.epochs, self._settings.patience)

    def before(
        self, teacher: Teacher, observer: Observer, *, untrained_teacher: bool, new_layers: bool
    ) -> dict[str, float]:
        """The accuracies of teacher and student before the first step, in percent of the test images.

        Args:
            teacher: The teacher.
            observer: Is told how the student is evaluated.
            untrained_teacher: Whether the teacher may be no better than chance.
            new_layers: As in `Trainer`.

        Raises:
            TrainingError: If the teacher is no better than chance.
        """
        theirs = self._evaluate(teacher.network, teacher.read)
        if self._settings.asks_teacher and not untrained_teacher:
            check_teacher(theirs, self._data)
        if new_layers:
            observer.message(
                "The student's accuracy before the first step is that with batch norm's statistics "
                "estimated anew from training images, which evaluate does not do."
            )
        mine = accuracy_before(
            self._network,
            self._data,
            self._settings.batch_size,
            self._processes,
            read=self._read,
            estimate_batch_norm=new_layers,
            workers=self._settings.workers,
        )
        return {"teacher": theirs.accuracy, "before": mine.accuracy}

    def epoch(self, number: int, lr: float) -> dict[str, Any]:
        """Evaluates the images by which epochs are judged, and adds the epoch to the record.

        Args:
            number: The number of the finished epoch, from 1.
            lr: The learning rate of its last step.

        Returns:
            The epoch's line of metrics.jsonl.

        Raises:
            UnsuitableSettingsError: If the loss on these images is not finite.
            ArtefactError: If a file cannot be written.
        """
        # Running statistics differ between processes unless batch norm is synchronised.
        self._processes.share([*self._network.buffers(), *self._average.statistics()])
        began, held = time.monotonic(), self._data.validation
        with self._average.shown():
            found = self._evaluate(self._network, self._read, held)
        self._check(found, "test" if held is None else "validation", number)
        figures = of_test(found) if held is None else of_validation(found)
        return self._record.add_epoch(number, figures, lr, time.monotonic() - began)

    def end(self) -> None:
        """Gives the network the weights that are saved, and looks at test images that judged nothing.

        Raises:
            UnsuitableSettingsError: If the loss on the test images is not finite.
            ArtefactError: If a file cannot be written.
        """
        self._average.put()
        if self._data.validation is None:
            return
        began, history = time.monotonic(), self._record.progress.history
        last, best = len(history), self._record.best_epoch
        found = {last: self._evaluate(self._network, self._read)}
        if best != last:
            own = {name: value.clone() for name, value in self._network.state_dict().items()}
            self._record.load_best()
            self._processes.share(self._network.state_dict().values())
            found[best] = self._evaluate(self._network, self._read)
            if self._settings.patience is None:
                put_state(self._network, own)
        for number, tested in found.items():
            self._check(tested, "test", number)
        self._record.add_tests(found, time.monotonic() - began)

    def _check(self, found: Evaluation, part: str, number: int) -> None:
        if not math.isfinite(found.loss):
            raise UnsuitableSettingsError(
                f"The loss on the {part} images is {found.loss} after epoch {number}. Try a smaller "
                f"--lr (it is {self._settings.lr}). {self._record.where_it_stands()}"
            )

    def _evaluate(
        self, network: nn.Module, read: OutputReader, images: Images | None = None
    ) -> Evaluation:
        return evaluate(
            network,
            self._data,
            images=images,
            read=read,
            batch_size=self._settings.batch_size,
            device=self._processes.device,
            workers=self._settings.workers,
            processes=self._processes,
        )
