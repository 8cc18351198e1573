"""Trains a network, or distills a converted one from its original."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from torch import nn

from seclcompress.artefact import ArtefactConfig
from seclcompress.data import Data, check_classes, usual_input_size
from seclcompress.errors import UsageError
from seclcompress.networks import check_image_classification
from seclcompress.observer import Observer
from seclcompress.processes import check_device, join
from seclcompress.resolve import Located, is_name, locate
from seclcompress.settings.training import TrainingSettings
from seclcompress.taps import check_taps, find_taps
from seclcompress.trace import trace_network
from seclcompress.workflows.locating import tell_weights, typed
from seclcompress.workflows.opening import open_data
from seclcompress.workflows.output import Output
from seclcompress.workflows.runs import (
    InterruptedRunError,
    Job,
    Stopping,
    TrainingResult,
    carry_out,
    parameters_of_original,
)

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
        weights_key: The place of the weights in a checkpoint, its keys joined by dots; None to find it.
        num_classes: The number of outputs of the classifier; by default one per class of the data.
        input_size: (channels, *spatial); by default the size of the data's images, or the network's
            usual size.
        data_dir: The folder of torchvision's data sets.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether published weights or data may be downloaded.
        recipe: The name of the recipe that the settings came from, to be saved with the result.
        resume: Whether to resume an interrupted run into this folder, if there is one.
        overwrite: Whether an earlier folder that this program wrote, or an interrupted run, may be
            replaced.
        time_limit: Seconds after which to save and stop; None for no limit.
        stopping: Is called with a function that asks the run to save and stop after the current step. It
            returns a context manager, which is open while the run lasts.
        observer: Receives reports of what happens.

    Raises:
        InterruptedRunError: If the run was stopped; it can be resumed with `resume`.
        SeclcompressError: If anything else goes wrong; checkpoints are kept.
    """
    settings = settings or TrainingSettings()
    output = Output(Path(output_dir), resume, overwrite)
    output.check()
    with join(settings.device) as processes:
        check_device(processes.device)
        observer = (observer if processes.first else None) or Observer()
        source, images = _source_and_data(
            typed(network),
            data,
            settings,
            weights=weights,
            weights_key=weights_key,
            num_classes=num_classes,
            input_size=input_size,
            data_dir=data_dir,
            factory=factory,
            download=download,
            observer=observer,
        )
        built, loaded = source.load(seed=settings.seed)
        check_classes(images, trace_network(built, source.input_size).outputs, source.label)
        tell_weights(loaded, observer)
        earlier = source.config
        metrics = earlier.metrics if earlier else {}
        config = ArtefactConfig(
            network=source.network,
            plan=earlier.plan if earlier else None,
            input_size=source.input_size,
            seed=settings.seed,
            metrics={key: metrics[key] for key in ("teacher_accuracy",) if key in metrics},
        )
        original = parameters_of_original(built, earlier)
        job = Job(built, images, settings, config, original, recipe)
        return carry_out(
            job,
            output,
            processes,
            time_limit=time_limit,
            stopping=stopping,
            observer=observer,
        )


def _source_and_data(
    network: str,
    data: str,
    settings: TrainingSettings,
    *,
    weights: str | None,
    weights_key: str | None,
    num_classes: int | None,
    input_size: tuple[int, ...] | None,
    data_dir: Path | None,
    factory: str | None,
    download: bool,
    observer: Observer,
) -> tuple[Located, Data]:
    """Locates the network and opens the data.

    If it is not given, the number of classes of a named network is that of the data. If neither it nor
    weights are given, the input size of a named network or a factory is that of the data's images.
    """
    named = is_name(network)
    if input_size is None and weights is None and (named or ":" in network):
        input_size = usual_input_size(data)
    source = locate(
        network,
        weights=weights,
        weights_key=weights_key,
        num_classes=num_classes,
        input_size=input_size,
        factory_name=factory,
        download=download,
    )
    check_image_classification(source.network, "train")
    images = open_data(
        data,
        source.input_size,
        source.preprocessing,
        settings,
        data_dir=data_dir,
        download=download,
        observer=observer,
    )
    if named and num_classes is None:
        source = locate(
            network,
            weights=weights,
            weights_key=weights_key,
            num_classes=len(images.classes),
            input_size=source.input_size,
            download=download,
        )
    return source, images


def distill(
    student: str | Path,
    *,
    teacher: str | Path,
    data: str,
    output_dir: str | Path,
    settings: TrainingSettings | None = None,
    teacher_weights: str | None = None,
    teacher_weights_key: str | None = None,
    data_dir: Path | None = None,
    factory: str | None = None,
    download: bool = False,
    recipe: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    time_limit: float | None = None,
    stopping: Stopping = contextlib.nullcontext,
    observer: Observer | None = None,
) -> TrainingResult:
    """Trains a converted network from its original, by attention transfer and knowledge distillation.

    The saved network has the last epoch's weights. The best epoch's weights are saved beside it in
    best.safetensors; that epoch is chosen by the accuracy on the test images, which is therefore
    optimistic.

    Args:
        student: A folder that `convert` wrote, or the name of a network, which is trained unconverted.
        teacher: The network to learn from: a folder, or a name together with weights.
        data: The name of a data set, one of `data.NAMES`.
        output_dir: The folder to write; it appears as a whole at the end.
        settings: The training settings; the defaults are what the study in docs/training.md found best.
            If `taps` are not given, attention is compared at the ends of the resolution groups.
        teacher_weights: The weights of a named teacher: a file, or torchvision's name of published
            weights.
        teacher_weights_key: The place of the weights in the teacher's checkpoint; None to find it.
        data_dir: As in `train`.
        factory: As in `train`.
        download: As in `train`.
        recipe: As in `train`.
        resume: As in `train`.
        overwrite: As in `train`.
        time_limit: As in `train`.
        stopping: As in `train`.
        observer: Receives reports of what happens.

    Raises:
        InterruptedRunError: If the run was stopped; it can be resumed with `resume`.
        SeclcompressError: If anything else goes wrong; checkpoints are kept.
    """
    settings = settings or TrainingSettings()
    output = Output(Path(output_dir), resume, overwrite)
    output.check()
    found = locate(typed(student), factory_name=factory)
    guide = _locate_teacher(
        typed(teacher),
        found,
        weights=teacher_weights,
        weights_key=teacher_weights_key,
        factory=factory,
        download=download,
    )
    with join(settings.device) as processes:
        check_device(processes.device)
        observer = (observer if processes.first else None) or Observer()
        images = open_data(
            data,
            found.input_size,
            found.preprocessing or guide.preprocessing,
            settings,
            data_dir=data_dir,
            download=download,
            observer=observer,
        )
        learner, _ = found.load(seed=settings.seed)
        master, loaded = guide.load(seed=settings.seed)
        tell_weights(loaded, observer)
        if loaded.untrained and settings.alpha > 0:
            raise UsageError(
                f"--teacher {teacher}: {', '.join(loaded.untrained)} are untrained, for another number "
                "of classes than its weights were published with, so its scores teach nothing. Train "
                f"it on {data} first, or only compare attention with --alpha 0."
            )
        settings = _with_taps(settings, learner, found, guide, images)
        earlier = found.config
        config = ArtefactConfig(
            network=found.network,
            plan=earlier.plan if earlier else None,
            input_size=found.input_size,
            seed=earlier.seed if earlier else settings.seed,
        )
        job = Job(
            learner,
            images,
            settings,
            config,
            parameters_of_original(learner, earlier),
            recipe,
            teacher=master,
            new_layers=earlier is None or not earlier.training,
        )
        return carry_out(
            job,
            output,
            processes,
            time_limit=time_limit,
            stopping=stopping,
            observer=observer,
        )


def _locate_teacher(
    teacher: str,
    student: Located,
    *,
    weights: str | None,
    weights_key: str | None,
    factory: str | None,
    download: bool,
) -> Located:
    """Locates the teacher at the student's input size; a named teacher needs weights."""
    guide = locate(
        teacher,
        weights=weights,
        weights_key=weights_key,
        input_size=student.input_size,
        num_classes=student.network.num_classes if is_name(teacher) else None,
        factory_name=factory,
        download=download,
    )
    for source in (student, guide):
        check_image_classification(source.network, "distill")
    if is_name(teacher) and weights is None:
        raise UsageError(
            f"--teacher {teacher}: an untrained network teaches nothing. Give a folder, or "
            "--teacher-weights."
        )
    return replace(guide, weights_option="--teacher-weights")


def _with_taps(
    settings: TrainingSettings, learner: nn.Module, student: Located, teacher: Located, images: Data
) -> TrainingSettings:
    """Completes the settings with default taps, and checks that taps and classes fit both networks."""
    # The taps are found in the teacher's skeleton, the original without structured layers.
    skeleton = teacher.skeleton()
    theirs = trace_network(skeleton, student.input_size)
    check_classes(images, theirs.outputs, teacher.label)
    mine = trace_network(learner, student.input_size)
    check_classes(images, mine.outputs, student.label)
    if settings.beta == 0:
        return settings
    named = "taps" in settings.model_fields_set
    names = settings.taps if named else tuple(find_taps(skeleton, theirs))
    if not names:
        raise UsageError(
            "No module ends a resolution group here. Name some with --taps, or switch "
            "attention transfer off with --beta 0."
        )
    check_taps(names, mine, theirs)
    return settings.model_copy(update={"taps": names})
