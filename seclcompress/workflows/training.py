"""Training a network, and distilling a converted one from its original."""

from __future__ import annotations

import contextlib
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
from seclcompress.workflows.locating import tell_untrained, typed
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
    """Trains a network without a teacher: to get a teacher, or to compare with distillation.

    No handler of a signal is changed. A KeyboardInterrupt leaves the last checkpoint beside the output
    folder, from which `resume` goes on.

    Args:
        network: A network's name, a saved folder, or `package.module:factory`.
        data: The name of a data set, one of `data.NAMES`.
        output_dir: The folder to write; it appears whole at the end.
        settings: How to train; by default as the study in docs/training.md found best.
        weights: A weights file, or torchvision's name of published ones.
        num_classes: Outputs of the classifier; by default the data's classes.
        input_size: (channels, *spatial); by default the data's or the network's usual one.
        data_dir: Where torchvision's data sets lie.
        factory: The factory to trust when a saved folder was built by it: its code will run.
        download: Whether published weights or data may be downloaded.
        recipe: The name of the recipe that the settings came from, for the record.
        resume: Whether to go on with the interrupted run into this folder, where there is one.
        overwrite: Whether an earlier folder of ours, or an interrupted run, may be given up.
        time_limit: Seconds after which to save and stop.
        stopping: Is called with the function that asks the run to save and stop after the step it is
            in; what it returns is open while the run lasts.
        observer: Is told what happens.

    Raises:
        InterruptedRunError: If the run was stopped; `resume` goes on.
        SeclcompressError: Whatever goes wrong; what was finished is kept.
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
            num_classes=num_classes,
            input_size=input_size,
            data_dir=data_dir,
            factory=factory,
            download=download,
            observer=observer,
        )
        built, untrained = source.load(seed=settings.seed)
        check_classes(images, trace_network(built, source.input_size).outputs, source.label)
        tell_untrained(untrained, observer)
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
    num_classes: int | None,
    input_size: tuple[int, ...] | None,
    data_dir: Path | None,
    factory: str | None,
    download: bool,
    observer: Observer,
) -> tuple[Located, Data]:
    """A network and data that fit together: what one leaves open, the other decides."""
    named = is_name(network)
    if input_size is None and weights is None and (named or ":" in network):
        input_size = usual_input_size(data)
    source = locate(
        network,
        weights=weights,
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
    """Trains a converted network from the original: attention transfer, knowledge distillation.

    The last epoch's weights are saved as the network; the best epoch's lie beside them in
    best.safetensors. The best epoch is chosen on the test images, so its accuracy flatters.

    Args:
        student: A folder that `convert` wrote; or a network's name, to train it as it is.
        teacher: The network to learn from: a folder, or a name with weights.
        data: The name of a data set, one of `data.NAMES`.
        output_dir: The folder to write; it appears whole at the end.
        settings: How to train; by default as the study in docs/training.md found best.
            Where `taps` are not given, the ends of the resolution groups are compared.
        teacher_weights: Weights of a named teacher: a file, or torchvision's name.
        data_dir: As in `train`.
        factory: As in `train`.
        download: As in `train`.
        recipe: As in `train`.
        resume: As in `train`.
        overwrite: As in `train`.
        time_limit: As in `train`.
        stopping: As in `train`.
        observer: Is told what happens.

    Raises:
        InterruptedRunError: If the run was stopped; `resume` goes on.
        SeclcompressError: Whatever goes wrong; what was finished is kept.
    """
    settings = settings or TrainingSettings()
    output = Output(Path(output_dir), resume, overwrite)
    output.check()
    found = locate(typed(student), factory_name=factory)
    guide = _locate_teacher(
        typed(teacher), found, weights=teacher_weights, factory=factory, download=download
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
        master, untrained = guide.load(seed=settings.seed)
        if untrained and settings.alpha > 0:
            raise UsageError(
                f"--teacher {teacher}: {', '.join(untrained)} are untrained, for another number of "
                "classes than its weights were published with, so its scores teach nothing. Train it "
                f"on {data} first, or only compare attention with --alpha 0."
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
    teacher: str, student: Located, *, weights: str | None, factory: str | None, download: bool
) -> Located:
    """A teacher that looks at the student's images and has learnt something."""
    guide = locate(
        teacher,
        weights=weights,
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
    return guide


def _with_taps(
    settings: TrainingSettings, learner: nn.Module, student: Located, teacher: Located, images: Data
) -> TrainingSettings:
    """The settings with the modules whose attention is compared; both networks fit the data."""
    # The original of a converted network has no structured layers, and tells where groups end.
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
