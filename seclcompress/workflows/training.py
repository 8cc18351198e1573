"""Trains a network, or distills a converted one from its original."""

from __future__ import annotations

import contextlib
from pathlib import Path

from seclcompress.observer import Observer
from seclcompress.processes import Processes, check_device, join
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.training import TrainingSettings
from seclcompress.trackers import check_trackers
from seclcompress.workflows.jobs import distilling_job, training_job
from seclcompress.workflows.output import Output
from seclcompress.workflows.output_files import check_no_input
from seclcompress.workflows.runs import InterruptedRunError, Stopping, TrainingResult, carry_out

__all__ = ["InterruptedRunError", "Stopping", "TrainingResult", "distill", "train"]


def train(
    network: str | Path,
    *,
    data: str,
    output_dir: str | Path,
    settings: TrainingSettings | None = None,
    weights: str | None = None,
    weights_key: str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, ...] | None = None,
    data_dir: Path | None = None,
    factory: str | None = None,
    download: bool = False,
    recipe: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    time_limit: float | None = None,
    stopping: Stopping = contextlib.nullcontext,
    tracked_in: Path | None = None,
    observer: Observer | None = None,
) -> TrainingResult:
    """Trains a network without a teacher, to obtain a teacher or to compare with distillation.

    Signal handlers are not changed. After a KeyboardInterrupt the last checkpoint is in
    `<output_dir>.partial`, and the run can be resumed from it.

    Args:
        network: A network's name, a saved folder, or `package.module:factory`.
        data: The name of a data set, one of `data.NAMES`.
        output_dir: The folder to write; it appears as a whole at the end.
        settings: The training settings; the defaults are what the study in docs/training.md found best.
        weights: A weights file, or torchvision's name of published weights.
        weights_key: Where in the file the weights stand, such as `model_ema`; None to look for them.
        num_classes: The number of outputs of the classifier; by default one per class of the data.
        input_size: (channels, *spatial); by default the size of the data's images, or the network's
            usual size.
        data_dir: The folder of torchvision's data sets.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether published weights, data, or a repository of the Hub may be downloaded.
        recipe: The name of the recipe that the settings came from, to be saved with the result.
        resume: Whether to resume an interrupted run into this folder, if there is one.
        overwrite: Whether an earlier folder that this program wrote, or an interrupted run, may be
            replaced.
        time_limit: Seconds after which to save and stop; None for no limit.
        stopping: Is called with a function that asks the run to save and stop after the current step. It
            returns a context manager, which is open while the run lasts.
        tracked_in: The folder for files that trackers (`settings.track`) share between runs, such as
            mlflow.db; None for the one around `output_dir`.
        observer: Receives reports of what happens.

    Raises:
        InterruptedRunError: If the run was stopped; it can be resumed with `resume`.
        SeclcompressError: If anything else goes wrong; checkpoints are kept.
    """
    settings = settings or TrainingSettings()
    check_trackers(settings.trackers)
    output = Output(Path(output_dir), resume, overwrite)
    check_no_input(output.folder, network)
    output.check()
    with join(settings.device) as processes, _claimed(output, processes):
        check_device(processes.device)
        observer = (observer if processes.first else None) or Observer()
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
            recipe=recipe,
            observer=observer,
        )
        return carry_out(
            job,
            output,
            processes,
            time_limit=time_limit,
            stopping=stopping,
            tracked_in=tracked_in,
            observer=observer,
        )


def _claimed(output: Output, processes: Processes) -> contextlib.AbstractContextManager[None]:
    """The claim of a run on its output; processes that train together share that of the first one."""
    return output.claimed() if processes.first else contextlib.nullcontext()


def distill(
    student: str | Path,
    *,
    teacher: str | Path,
    data: str,
    output_dir: str | Path,
    settings: TrainingSettings | None = None,
    recovery: RecoverySettings | None = None,
    teacher_weights: str | None = None,
    teacher_weights_key: str | None = None,
    input_size: tuple[int, ...] | None = None,
    teacher_input_size: tuple[int, ...] | None = None,
    untrained_teacher: bool = False,
    data_dir: Path | None = None,
    factory: str | None = None,
    download: bool = False,
    recipe: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    time_limit: float | None = None,
    stopping: Stopping = contextlib.nullcontext,
    tracked_in: Path | None = None,
    observer: Observer | None = None,
) -> TrainingResult:
    """Trains a converted network from its original, by attention transfer and knowledge distillation.

    The saved network has the last epoch's weights; with `patience`, the best epoch's. Those are saved
    beside it in best.safetensors, too. That epoch is chosen by the accuracy on the images that
    `validation` holds out, or else on the test images, which is then optimistic.

    Args:
        student: A folder that `convert` wrote, or the name of a network, which is trained unconverted.
        teacher: The network to learn from: a folder, or a name together with weights.
        data: The name of a data set, one of `data.NAMES`.
        output_dir: The folder to write; it appears as a whole at the end.
        settings: The training settings; the defaults are what the study in docs/training.md found best.
            If `taps` are not given, attention is compared at the ends of the resolution groups.
        recovery: How the student's layers first take over the teacher's outputs, as `recover` does; None
            to train it as it is. The learning rate is then 0.01, unless `settings` name one. A resumed
            run does not recover again. `time_limit` counts the training only.
        teacher_weights: The weights of a named teacher: a file, or torchvision's name of published
            weights.
        teacher_weights_key: Where in that file the weights stand, such as `model_ema`; None to look for
            them.
        input_size: The student's (channels, *spatial); by default as in `train`.
        teacher_input_size: The teacher's; by default the one that its folder or its published weights
            name, or else the student's. Images are resized for it.
        untrained_teacher: Whether the teacher may be no better than chance on the test images.
        data_dir: As in `train`.
        factory: As in `train`.
        download: As in `train`.
        recipe: As in `train`.
        resume: As in `train`.
        overwrite: As in `train`.
        time_limit: As in `train`.
        stopping: As in `train`.
        tracked_in: As in `train`.
        observer: Receives reports of what happens.

    Raises:
        InterruptedRunError: If the run was stopped; it can be resumed with `resume`.
        SeclcompressError: If anything else goes wrong; checkpoints are kept.
    """
    settings = settings or TrainingSettings()
    check_trackers(settings.trackers)
    output = Output(Path(output_dir), resume, overwrite)
    check_no_input(output.folder, student, teacher)
    output.check()
    with join(settings.device) as processes, _claimed(output, processes):
        check_device(processes.device)
        observer = (observer if processes.first else None) or Observer()
        job = distilling_job(
            student,
            teacher,
            data,
            settings,
            recovery=recovery,
            kept_in=output.partial if output.resume else None,
            teacher_weights=teacher_weights,
            teacher_weights_key=teacher_weights_key,
            input_size=input_size,
            teacher_input_size=teacher_input_size,
            untrained_teacher=untrained_teacher,
            data_dir=data_dir,
            factory=factory,
            download=download,
            recipe=recipe,
            processes=processes,
            observer=observer,
        )
        return carry_out(
            job,
            output,
            processes,
            time_limit=time_limit,
            stopping=stopping,
            tracked_in=tracked_in,
            observer=observer,
        )
