"""What a run is made from: networks that are found and built, data that are opened, settings.

The same for a run and for whatever else looks at what a run would begin with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from seclcompress.artefact import ArtefactConfig
from seclcompress.data import Data
from seclcompress.narrowing import Widths
from seclcompress.observer import Observer, after_checks
from seclcompress.processes import Processes
from seclcompress.resolve import Located
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.training import DISTILLATION, TrainingSettings
from seclcompress.train.outputs import OutputReader, read_outputs
from seclcompress.train.shrinking import Shrinking
from seclcompress.train.view import View
from seclcompress.workflows.inputs import find_for_distilling, find_for_training
from seclcompress.workflows.locating import beginning, is_trained, taught, tell_weights, typed
from seclcompress.workflows.recovered_start import RecoveredStart, recovered_start
from seclcompress.workflows.taking_over import check_classifier, check_sizes
from seclcompress.workflows.teaching import (
    check_differs,
    check_scores,
    gently,
    view_of,
    with_taps,
)


@dataclass(frozen=True)
class Job:
    """The inputs of a run.

    Attributes:
        source: Where the network comes from.
        network: The network to train.
        data: The data set.
        settings: The training settings.
        config: The configuration of the output folder; the run adds its metrics and settings. Its
            `training` says where the run began.
        original_parameters: The number of parameters of the original network.
        outputs: Picks the class scores out of the network's outputs.
        recipe: The name of the recipe that the settings came from, saved in the configuration.
        teacher: The teacher; None to train without.
        teacher_outputs: Picks the class scores out of the teacher's outputs.
        view: How the teacher sees the student's images; None for as the student does.
        untrained_teacher: Whether the teacher may be no better than chance.
        new_layers: Whether the network has untrained layers, made by `convert`.
        start: The recovery that the network comes from, to be kept for a resumed run; None without one.
        shrinking: Which channels the network loses meanwhile; None for a network that keeps them.
    """

    source: Located
    network: nn.Module
    data: Data
    settings: TrainingSettings
    config: ArtefactConfig
    original_parameters: int
    outputs: OutputReader
    recipe: str | None = None
    teacher: nn.Module | None = None
    teacher_outputs: OutputReader | None = None
    view: View | None = None
    untrained_teacher: bool = False
    new_layers: bool = False
    start: RecoveredStart | None = None
    shrinking: Shrinking | None = None

    @property
    def unused(self) -> tuple[str, ...]:
        """The names of the settings that this run does not use."""
        return DISTILLATION if self.teacher is None else ()


def parameters_of_original(network: nn.Module, config: ArtefactConfig | None) -> int:
    """The number of parameters of the original of a converted network; for any other, its own number.

    Args:
        network: The network.
        config: The configuration of its folder; its plan says what each new layer has replaced.
    """
    mine = sum(parameter.numel() for parameter in network.parameters())
    layers = config.plan.layers if config and config.plan else []
    return mine + sum(layer.original.parameters - layer.cost.parameters for layer in layers)


def narrowed(job: Job, widths: dict[str, Widths]) -> Job:
    """The job of a network that lost channels in it, as one of the network that it has become.

    Args:
        job: The job.
        widths: Inputs and outputs of the layers that are narrower, by their names.
    """
    network = job.config.network
    network = network.model_copy(update={"widths": {**network.widths, **widths}})
    return replace(
        job,
        config=job.config.model_copy(update={"network": network}),
        source=replace(job.source, network=network, folder=None, config=None),
    )


def training_job(
    network: str | Path,
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
    recipe: str | None,
    observer: Observer,
    keeps: bool = False,
) -> Job:
    """Makes the inputs of a run without a teacher; the arguments are those of `workflows.train`.

    With `keeps`, trained weights of every network are trained gently, not only those that `slim` or
    `recover` left.

    Raises:
        SeclcompressError: If anything does not fit; the message says what.
    """
    with after_checks(observer) as checked:
        source, images = find_for_training(
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
            observer=checked,
        )
        built, loaded = source.load(seed=settings.seed)
        outputs = read_outputs(built, images, source.label, checked)
        tell_weights(loaded, checked)
    inherits = f"{source.label} has trained weights" if keeps and is_trained(source) else None
    settings = gently(settings, source, observer, inherits=inherits)
    earlier = source.config
    config = ArtefactConfig(
        network=source.network,
        plan=earlier.plan if earlier else None,
        input_size=source.input_size,
        seed=settings.seed,
        training=beginning(source),
    )
    original = parameters_of_original(built, earlier)
    return Job(source, built, images, settings, config, original, outputs, recipe)


def distilling_job(
    student: str | Path,
    teacher: str | Path,
    data: str,
    settings: TrainingSettings,
    *,
    recovery: RecoverySettings | None,
    kept_in: Path | None,
    teacher_weights: str | None,
    teacher_weights_key: str | None,
    input_size: tuple[int, ...] | None,
    teacher_input_size: tuple[int, ...] | None,
    untrained_teacher: bool,
    data_dir: Path | None,
    factory: str | None,
    download: bool,
    recipe: str | None,
    processes: Processes,
    observer: Observer,
) -> Job:
    """Makes the inputs of a run with a teacher; the arguments are those of `workflows.distill`.

    `kept_in` is the folder of an interrupted run, in which a recovery is kept; None to begin anew.

    Raises:
        SeclcompressError: If anything does not fit; the message says what.
    """
    with after_checks(observer) as checked:
        found, guide, images, settings = find_for_distilling(
            typed(student),
            typed(teacher),
            data,
            settings,
            teacher_weights=teacher_weights,
            teacher_weights_key=teacher_weights_key,
            input_size=input_size,
            teacher_input_size=teacher_input_size,
            data_dir=data_dir,
            factory=factory,
            download=download,
            observer=checked,
        )
        view = view_of(guide, images, by_order=settings.classes_by_order, observer=checked)
        learner, _ = found.load(seed=settings.seed)
        master, loaded = guide.load(seed=settings.seed)
        if view is None:  # else the teacher sees the images in another way
            check_differs(found, learner, guide, master)
        if recovery is not None:
            check_sizes(found, guide)
            check_classifier(guide, loaded.untrained, images, recovery)
        tell_weights(loaded, checked)
        check_scores(guide, loaded.untrained, images, settings)
        outputs = read_outputs(learner, images, found.label, checked)
        teacher_outputs = read_outputs(master, images, guide.label, checked, guide.input_size)
    settings = gently(settings, found, observer, recovers=recovery is not None)
    settings = with_taps(settings, learner, found, guide)
    start, recovered = None, {}
    if recovery is not None:
        start = recovered_start(
            learner,
            master,
            images,
            (found.label, guide.label),
            recovery,
            settings,
            view,
            kept_in,
            processes,
            observer,
        )
        recovered = {"recovered": start.record}
    earlier = found.config
    config = ArtefactConfig(
        network=found.network,
        plan=earlier.plan if earlier else None,
        input_size=found.input_size,
        seed=earlier.seed if earlier else settings.seed,
        training={**beginning(found), **taught(guide, master), **recovered},
    )
    return Job(
        found,
        learner,
        images,
        settings,
        config,
        parameters_of_original(learner, earlier),
        outputs,
        recipe,
        teacher=master,
        teacher_outputs=teacher_outputs,
        view=view,
        untrained_teacher=untrained_teacher or bool(loaded.untrained),
        new_layers=start is None and (earlier is None or not earlier.training),
        start=start,
    )
