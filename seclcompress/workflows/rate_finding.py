"""Looks for a learning rate by a range test, before a run of `train` or `distill`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from seclcompress import extras
from seclcompress.errors import UsageError
from seclcompress.observer import Logging, Observer
from seclcompress.processes import Processes, check_device
from seclcompress.report.learning_rates import rates_png
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.training import TrainingSettings
from seclcompress.train.finder import HIGHEST, LOWEST, STEPS, Readings, range_test
from seclcompress.train.suggestion import Suggestion, suggest
from seclcompress.workflows.jobs import distilling_job, training_job
from seclcompress.workflows.output_files import check_file, write_one
from seclcompress.workflows.runs import out_of_memory


@dataclass(frozen=True)
class FoundLr:
    """The result of a range test.

    Attributes:
        label: The network, as the person named it.
        readings: The loss at each learning rate.
        suggestion: What they suggest.
        lr: The learning rate that a run with these settings would have.
        picture: The file of the picture; None without one.
    """

    label: str
    readings: Readings
    suggestion: Suggestion
    lr: float
    picture: Path | None = None


def find_lr(
    network: str | Path,
    *,
    data: str,
    teacher: str | Path | None = None,
    settings: TrainingSettings | None = None,
    recovery: RecoverySettings | None = None,
    picture: str | Path | None = None,
    weights: str | None = None,
    weights_key: str | None = None,
    teacher_weights: str | None = None,
    teacher_weights_key: str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, ...] | None = None,
    teacher_input_size: tuple[int, ...] | None = None,
    data_dir: Path | None = None,
    factory: str | None = None,
    download: bool = False,
    overwrite: bool = False,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
    observer: Observer | None = None,
) -> FoundLr:
    """Tries rising learning rates on a copy of a network, and suggests one: a range test (Smith, 2017).

    The steps are those of a run with these settings: losses, teacher, optimizers with the relative rates
    of their groups, batches, precision. Nothing is written but the picture, if one is asked for. The
    suggestion is a hint: the rate of the lowest smoothed loss, divided by 10. A test sees a hundred
    steps, so it tells which rates are too high, and little about what is best after many epochs.

    Args:
        network: As in `train`; with a teacher, as the student in `distill`.
        data: The name of a data set, one of `data.NAMES`.
        teacher: The network to learn from; None to train without. It is not tested here.
        settings: The training settings; of the schedule, `ema` and `epochs` nothing is used.
        recovery: As in `distill`.
        picture: A PNG file to write; None for none.
        weights: As in `train`; only without a teacher.
        weights_key: As in `train`; only without a teacher.
        teacher_weights: As in `distill`.
        teacher_weights_key: As in `distill`.
        num_classes: As in `train`; only without a teacher.
        input_size: As in `train`.
        teacher_input_size: As in `distill`.
        data_dir: As in `train`.
        factory: As in `train`.
        download: As in `train`.
        overwrite: Whether an existing picture may be replaced.
        lowest: The first learning rate.
        highest: The last one.
        steps: How many steps there are between them.
        observer: Receives reports of the work.

    Raises:
        UsageError: If it runs in several processes, options contradict each other, or matplotlib is not
            installed for a picture.
        UnsuitableSettingsError: If the loss is not finite at the first step, there are too few images,
            or the device has too little memory. A loss that diverges later ends the test.
        SeclcompressError: As in `train` and `distill`.
    """
    settings, observer = settings or TrainingSettings(), observer or Logging()
    _check_asked(teacher, recovery, weights, weights_key, num_classes, teacher_weights)
    if not 0 < lowest < highest or steps < 2:
        raise UsageError(
            f"Rates from {lowest:g} to {highest:g} in {steps} steps: they must rise, from above 0."
        )
    path = None if picture is None else Path(picture)
    if path is not None:
        if path.suffix.lower() != ".png":
            raise UsageError(f"{path}: the picture of the learning rates is a PNG file, as lr.png.")
        extras.need("a picture of the learning rates", "pictures", "matplotlib")
        check_file(path, overwrite, replaces=lambda _: False)
    check_device(settings.device)
    processes = Processes(device=settings.device)
    if teacher is None:
        job = training_job(
            network,
            data,
            settings,
            weights=weights,
            weights_key=weights_key,
            num_classes=num_classes,
            input_size=input_size,
            data_dir=data_dir,
            factory=factory,
            download=download,
            recipe=None,
            observer=observer,
        )
    else:
        job = distilling_job(
            network,
            teacher,
            data,
            settings,
            recovery=recovery,
            kept_in=None,
            teacher_weights=teacher_weights,
            teacher_weights_key=teacher_weights_key,
            input_size=input_size,
            teacher_input_size=teacher_input_size,
            untrained_teacher=True,
            data_dir=data_dir,
            factory=factory,
            download=download,
            recipe=None,
            processes=processes,
            observer=observer,
        )
    with observer.counting("Trying learning rates", steps) as tell:
        try:
            readings = range_test(
                job.network,
                job.data,
                job.settings,
                processes,
                teacher=job.teacher,
                view=job.view,
                original_parameters=job.original_parameters,
                outputs=job.outputs,
                teacher_outputs=job.teacher_outputs,
                lowest=lowest,
                highest=highest,
                steps=steps,
                on_step=tell,
            )
        except torch.OutOfMemoryError as error:
            raise out_of_memory(error, job.settings, settings.device) from error
    found = suggest(readings.rates, readings.losses, readings.smoothed)
    if path is not None:
        write_one(path, rates_png(readings, found, job.settings.lr, job.source.label))
    return FoundLr(job.source.label, readings, found, job.settings.lr, path)


def _check_asked(
    teacher: str | Path | None,
    recovery: RecoverySettings | None,
    weights: str | None,
    weights_key: str | None,
    num_classes: int | None,
    teacher_weights: str | None,
) -> None:
    """Refuses what cannot be looked for."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "--find-lr runs in one process; start it without torchrun. A run of several learns as "
            "one with as many images a step: look with a --batch-size that is as many times larger."
        )
    if teacher is None and (recovery is not None or teacher_weights is not None):
        raise UsageError("A recovery and a teacher's weights need a teacher.")
    if teacher is not None and (weights, weights_key, num_classes) != (None, None, None):
        raise UsageError(
            "weights, weights_key and num_classes are for a network without a teacher; a student is a "
            "folder that has both."
        )
