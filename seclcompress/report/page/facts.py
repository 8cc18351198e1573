"""What a page is made from: figures of saved folders that were computed or measured elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seclcompress.artefact import ArtefactConfig
from seclcompress.bench import Measured
from seclcompress.count import Count, Totals
from seclcompress.plan import Plan
from seclcompress.train import Epoch, Evaluation


@dataclass(frozen=True)
class StoredFile:
    """A file of weights.

    Attributes:
        name: The file's name.
        format: The format in words, such as `safetensors`.
        values: The number of values by dtype; empty where the file was not looked into.
        size: The size in bytes.
    """

    name: str
    format: str
    values: Mapping[str, int]
    size: int


@dataclass(frozen=True)
class Timed:
    """The timings of a network and of its variants.

    Attributes:
        machine: Processor, threads, versions.
        plan: The plan in the layout that is the faster one.
        measured: The measurements by column.
    """

    machine: str
    plan: Plan
    measured: Mapping[str, Measured]


@dataclass(frozen=True)
class Facts:
    """What is known of a saved folder.

    Attributes:
        folder: The folder, as the person named it.
        config: The content of its `config.json`.
        count: Figures before and after; of a network that is not converted, what a conversion would
            give.
        plan: The plan that was counted.
        converted: Whether the folder's network was rewritten by that plan.
        history: The epochs of its training run; empty if there was none.
        files: The files of weights in the folder.
        data: The data set on which it was evaluated for this page.
        evaluation: The figures on its test images, with answers by class.
        timed: The timings, if they were measured for this page.
    """

    folder: str
    config: ArtefactConfig
    count: Count
    plan: Plan
    converted: bool
    history: Sequence[Epoch] = ()
    files: Sequence[StoredFile] = ()
    data: str | None = None
    evaluation: Evaluation | None = None
    timed: Timed | None = None

    @property
    def network(self) -> str:
        """The name of the network before any rewrite."""
        return self.config.network.name

    @property
    def before(self) -> Totals:
        """The figures of the original network."""
        return self.count.columns["original"]

    @property
    def after(self) -> Totals:
        """The figures of the network in the folder."""
        return self.count.columns["auto"] if self.converted else self.before

    @property
    def trained_on(self) -> str | None:
        """The data set of the training run, if there was one."""
        name = self.config.training.get("data")
        return name if isinstance(name, str) else None

    @property
    def teacher_accuracy(self) -> float | None:
        """Top-1 accuracy of the teacher on `trained_on` in percent, as a distillation measured it.

        Without a distillation the folder may hold the accuracy that an earlier command knew of the
        original. It says nothing of the images, so it is compared with nothing.
        """
        return self._metric("teacher_accuracy") if self.config.distilled else None

    @property
    def teacher(self) -> str | None:
        """The name of the teacher's folder, or of its network; None where the folder does not say it."""
        for key in ("teacher_folder", "teacher_network"):
            value = self.config.training.get(key)
            if self.config.distilled and isinstance(value, str) and value:
                return value
        return None

    @property
    def test_images(self) -> int | None:
        """The number of images behind `accuracy`; None if it is not known."""
        if self._metric("accuracy") is None:
            return None if self.evaluation is None else self.evaluation.images
        value = self.config.training.get("test_images")
        known = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63
        return value if known else None

    @property
    def teacher_parameters(self) -> int | None:
        """The parameters of the teacher; None where the folder does not say them."""
        value = self.config.training.get("teacher_parameters")
        known = self.config.distilled and isinstance(value, int) and 0 < value < 2**63
        return value if known else None

    @property
    def taught_by_another(self) -> bool:
        """Whether the folder says that its teacher was no network like the original."""
        network = self.config.training.get("teacher_network")
        parameters = self.teacher_parameters
        return self.teacher is not None and (
            network != self.network
            or (parameters or self.before.parameters) != self.before.parameters
        )

    @property
    def accuracy_before(self) -> float | None:
        """The teacher's accuracy in percent, if it belongs to the same images as `accuracy`."""
        same = self.accuracy is not None and self.accuracy_on == self.trained_on
        return self.teacher_accuracy if same else None

    @property
    def accuracy(self) -> float | None:
        """Top-1 accuracy in percent: of the training run, or else as evaluated for this page."""
        known = self._metric("accuracy")
        return self.evaluation.accuracy if known is None and self.evaluation else known

    @property
    def accuracy_on(self) -> str | None:
        """The data set that `accuracy` belongs to."""
        return self.data if self._metric("accuracy") is None else self.trained_on

    def _metric(self, name: str) -> float | None:
        value = self.config.metrics.get(name)
        return value if value is not None and 0 <= value <= 100 else None
