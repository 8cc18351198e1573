"""A student of a search: making it for a budget, and its rounds. Each step is a folder, made once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seclcompress import artefact
from seclcompress.budget import Budgeted
from seclcompress.errors import PlanError, SeclcompressError, UnsuitableSettingsError
from seclcompress.observer import Observer
from seclcompress.report.searching import BEHIND, LEFT_OUT, Contender, Round
from seclcompress.settings.budget import Budget
from seclcompress.settings.planning import PlanOptions
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.sensitivity import SensitivityOptions
from seclcompress.settings.slimming import SlimOptions
from seclcompress.settings.tournament import SLIM, behind_slim
from seclcompress.settings.training import TrainingSettings
from seclcompress.workflows.budgeting import plan
from seclcompress.workflows.converting import convert
from seclcompress.workflows.counting import count
from seclcompress.workflows.output import Output
from seclcompress.workflows.recovering import recover
from seclcompress.workflows.runs import Stopping
from seclcompress.workflows.slimming import slim
from seclcompress.workflows.taking_over import NothingToRecoverError
from seclcompress.workflows.training import distill


class Quiet(Observer):
    """Passes on how far work is, and none of its words.

    Args:
        observer: Receives what is passed on.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        """Passes the report on."""
        with self._observer.working(words) as tell:
            yield tell

    @contextlib.contextmanager
    def counting(self, words: str, total: int) -> Iterator[Callable[[int, int], object]]:
        """Passes the report on."""
        with self._observer.counting(words, total) as tell:
            yield tell

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """Passes the report on."""
        self._observer.start(epochs, steps, finished)

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        """Passes the report on."""
        self._observer.step(epoch, images, loss, lr)


@dataclass(frozen=True)
class Workshop:
    """What all students of a search have in common.

    Attributes:
        teacher: The network as a person names it.
        data: The data set's name.
        folder: Where the students lie.
        settings: Those of the last round; `validation` is set.
        pictures: How many a recovery learns from, and how many say which channels a network loses.
        sensitivity: How plans know what a layer loses.
        given: Arguments by which the network is found, the same for all workflows.
        of_weights: `weights` and `weights_key`, which some workflows call `teacher_weights`.
        data_dir: The folder of torchvision's data sets.
        stopping: As in `train`.
        time_left: The seconds until the search is to stop; None for no limit.
        observer: Receives what happens.
    """

    teacher: str | Path
    data: str
    folder: Path
    settings: TrainingSettings
    pictures: int
    sensitivity: SensitivityOptions
    given: Mapping[str, Any]
    of_weights: Mapping[str, Any]
    data_dir: Path | None
    stopping: Stopping
    time_left: Callable[[], float | None]
    observer: Observer

    @property
    def _quiet(self) -> Quiet:
        return Quiet(self.observer)

    @property
    def _taught(self) -> dict[str, Any]:
        """The arguments of a workflow with a teacher."""
        return {
            "teacher": self.teacher,
            "data": self.data,
            "data_dir": self.data_dir,
            "observer": self._quiet,
            **{f"teacher_{name}": value for name, value in self.of_weights.items()},
            **{key: self.given[key] for key in ("input_size", "factory", "download")},
        }

    def make(self, name: str, budget: Budget) -> Contender:
        """Makes a student for a budget, unless it is there.

        Args:
            name: The family, several with a plus between them, `slim`, or `slim+FAMILY`.
            budget: What it may have.

        Returns:
            The student; one that is left out, with the reason, where none meets the budget.
        """
        asked = str(budget)
        student = self._place(name, budget, "student")
        if not student.exists():
            known: dict[str, Any] = {**self.given, **self.of_weights, "observer": self._quiet}
            try:
                if name == SLIM:
                    self._slim(budget, student, None, known)
                elif (behind := behind_slim(name)) is not None:
                    narrowed = self._place(name, budget, "narrowed")
                    if not narrowed.exists():
                        self._slim(budget, narrowed, behind, known)
                    convert(
                        narrowed,
                        student,
                        options=PlanOptions(substitution=behind),
                        start="original",
                        factory=self.given["factory"],
                        observer=self._quiet,
                    )
                else:
                    planned = self._plan(budget, tuple(name.split("+")), known)
                    convert(self.teacher, student, plan=planned.plan, start="original", **known)
            except PlanError as error:
                return Contender(name, asked, LEFT_OUT, reason=_first_sentence(error))
        column = "original" if name == SLIM else "auto"
        counted = count(student, factory=self.given["factory"]).count.columns[column]
        return Contender(
            name, asked, BEHIND, counted.parameters, counted.mult_adds, folder=str(student)
        )

    def _plan(
        self, budget: Budget, families: tuple[str, ...], known: Mapping[str, Any]
    ) -> Budgeted:
        """Plans by what layers lose: several families by the measure, and one by its weights.

        For one family plans are about the same by any measure (docs/budgets.md), and energy is quick.
        """
        given = dict(known)
        if len(families) > 1:
            given["sensitivity"] = self.sensitivity
            if self.sensitivity.sensitivity != "energy":
                given |= {"data": self.data, "data_dir": self.data_dir, "settings": self.settings}
        return plan(self.teacher, budget, families=families, **given)

    def _slim(
        self, budget: Budget, folder: Path, rewritten_as: str | None, known: Mapping[str, Any]
    ) -> None:
        """Writes the network with fewer channels."""
        slim(
            self.teacher,
            budget,
            folder,
            options=SlimOptions(method="svd", pictures=self.pictures, rewritten_as=rewritten_as),
            data=self.data,
            data_dir=self.data_dir,
            settings=self.settings,
            **known,
        )

    def recover(self, one: Contender, budget: Budget) -> Contender:
        """The round without training; a student that cannot be recovered comes out without it.

        A narrowed network's student has fewer channels than the teacher, and takes over those of the
        narrowed network.
        """
        if one.name == SLIM or one.folder is None:
            return one
        folder = self._place(one.name, budget, "recovered")
        began = time.monotonic()
        taught = self._taught
        if behind_slim(one.name) is not None:
            own = {"teacher": self._place(one.name, budget, "narrowed")}
            taught |= own | dict.fromkeys(("teacher_weights", "teacher_weights_key"))
        if not folder.exists():
            try:
                recover(
                    one.folder,
                    output_dir=folder,
                    settings=RecoverySettings(pictures=self.pictures),
                    training=self.settings,
                    **taught,
                )
            except NothingToRecoverError:
                return one
        return self._after(one, folder, 0, time.monotonic() - began)

    def distill(self, one: Contender, budget: Budget, epochs: int) -> Contender:
        """A round of distillation; a student whose numbers are no longer finite is left out."""
        assert one.folder is not None
        start = self._place(one.name, budget, "recovered")
        if not start.exists():
            start = self._place(one.name, budget, "student")
        folder = self._place(one.name, budget, f"epochs-{epochs}")
        began = time.monotonic()
        if not folder.exists():
            try:
                distill(
                    start,
                    output_dir=folder,
                    settings=self.settings.model_copy(update={"epochs": epochs}),
                    resume=Output(folder).partial.exists(),
                    time_limit=self.time_left(),
                    stopping=self.stopping,
                    tracked_in=self.folder.absolute().parent,
                    **self._taught,
                )
            except UnsuitableSettingsError as error:
                return Contender(one.name, one.budget, LEFT_OUT, reason=_first_sentence(error))
        return self._after(one, folder, epochs, time.monotonic() - began)

    def _after(self, one: Contender, folder: Path, epochs: int, seconds: float) -> Contender:
        metrics = artefact.read_config(folder).metrics
        seconds = metrics.get("training_seconds", metrics.get("recovery_seconds", seconds))
        reached = Round(epochs, metrics["validation_accuracy"], metrics["accuracy"], seconds)
        how = "after its recovery" if epochs == 0 else f"after {epochs} epochs"
        self.observer.message(
            f"{one.name}, {one.parameters:,} parameters, {how}: {reached.validation_accuracy:.2f} % of "
            "the held-out images."
        )
        return replace(one, rounds=(*one.rounds, reached), folder=str(folder))

    def _place(self, name: str, budget: Budget, what: str) -> Path:
        size = "-".join(f"{key}-{value}" for key, value in budget.given().items())
        return self.folder / f"{size}-{name.replace('+', '-')}-{what}"


def _first_sentence(error: SeclcompressError) -> str:
    return str(error).partition(". ")[0].rstrip(".")
