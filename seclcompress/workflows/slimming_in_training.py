"""A network loses channels while it is trained: by gates, or in rounds by norms or singular values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import nn

from seclcompress.artefact import ArtefactConfig
from seclcompress.data import Data
from seclcompress.graph import Channels
from seclcompress.networks.weights import check_finite
from seclcompress.observer import Observer, after_checks
from seclcompress.optim import GATES
from seclcompress.processes import check_device, join
from seclcompress.resolve import Located
from seclcompress.settings.budget import Budget
from seclcompress.settings.slimming import SlimOptions
from seclcompress.settings.training import TrainingSettings
from seclcompress.slim import Figures, Lost, Slimmed, figures_without
from seclcompress.trackers import check_trackers
from seclcompress.train.outputs import OutputReader, read_outputs
from seclcompress.train.shrinking import Shrinking
from seclcompress.train.view import View
from seclcompress.wording import listed
from seclcompress.workflows.held_out import with_teachers_share
from seclcompress.workflows.jobs import training_job
from seclcompress.workflows.locating import (
    Network,
    check_unconverted,
    is_trained,
    name_factory,
    taught,
    tell_weights,
    typed,
)
from seclcompress.workflows.looking import Looking
from seclcompress.workflows.output import Output
from seclcompress.workflows.output_files import check_no_input
from seclcompress.workflows.runs import Stopping, carry_out
from seclcompress.workflows.slimming_checks import check_choices, check_teacher_options
from seclcompress.workflows.teaching import (
    check_scores,
    locate_teacher,
    view_of,
    with_taps,
)
from seclcompress.workflows.widths_to_lose import (
    check_not_met,
    check_reachable,
    find_channels,
    smallest_of,
    that_can_lose,
    widths_left,
)


def slim_in_training(
    network: Network,
    budget: Budget | None,
    output_dir: str | Path | None,
    *,
    options: SlimOptions,
    data: str | None,
    settings: TrainingSettings,
    teacher: str | Path | None,
    teacher_weights: str | None,
    teacher_weights_key: str | None,
    untrained_teacher: bool,
    data_dir: Path | None,
    weights: str | None,
    weights_key: str | None,
    input_size: tuple[int, ...] | None,
    num_classes: int | None,
    factory: str | None,
    download: bool,
    recipe: str | None,
    resume: bool,
    overwrite: bool,
    time_limit: float | None,
    stopping: Stopping,
    observer: Observer,
) -> Slimmed:
    """Trains a network that loses channels meanwhile; see `workflows.slim` for arguments and errors."""
    named, data, folder = check_choices(network, budget, output_dir, options, data, settings)
    check_teacher_options(
        teacher, teacher_weights, teacher_weights_key, untrained=untrained_teacher
    )
    check_trackers(settings.trackers)
    output = Output(folder, resume, overwrite)
    check_no_input(folder, network, *([] if teacher is None else [teacher]))
    output.check()
    claimed = output.claimed
    with join(settings.device) as processes:
        observer = observer if processes.first else Observer()
        with claimed() if processes.first else contextlib.nullcontext():
            check_device(processes.device)
            with after_checks(observer) as checked:
                settings = with_teachers_share(
                    settings,
                    named if teacher is None else typed(teacher),
                    data,
                    download=download,
                    observer=checked,
                )
                job = training_job(
                    named,
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
                    observer=checked,
                    keeps=True,
                )
                source = job.source
                check_unconverted(source, "Slim")
                check_finite(job.network.state_dict(), source.label)
                losing = _may_lose(source, budget, options, checked)
                teaching = None
                if teacher is not None:
                    guide = locate_teacher(
                        typed(teacher),
                        source,
                        weights=teacher_weights,
                        weights_key=teacher_weights_key,
                        input_size=None,
                        factory=factory,
                        download=download,
                    )
                    teaching = _teach(guide, job.data, settings, checked)
            settings = _settings(job.settings, options)
            if teaching is not None:
                settings = with_taps(settings, job.network, source, teaching.located)
            before = None
            looking = Looking(data, job.data, job.outputs, settings, observer)
            if is_trained(source) and job.data.validation is None:
                before = looking.accuracy(job.network)
            groups, figures = losing.channels.groups, losing.figures
            spectra = looking.spectra(options.pictures) if options.looks else None
            shrinking = Shrinking(
                job.network, groups, figures, options, budget, settings.lr, spectra
            )
            job = replace(
                job,
                settings=settings,
                config=_config(job.config, shrinking, before, teaching),
                teacher=None if teaching is None else teaching.network,
                teacher_outputs=None if teaching is None else teaching.read,
                view=None if teaching is None else teaching.view,
                untrained_teacher=untrained_teacher
                or (teaching is not None and teaching.untrained),
                shrinking=shrinking,
            )
            result = carry_out(
                job,
                output,
                processes,
                time_limit=time_limit,
                stopping=stopping,
                tracked_in=None,
                observer=observer,
            )
    _tell_least(shrinking, observer)
    observer.message(f"Wrote {folder}.{name_factory(source)}")
    return Slimmed(
        source.label,
        budget,
        options,
        shrinking.before,
        shrinking.figures,
        losing.smallest,
        widths_left(groups, shrinking.kept()),
        losing.channels.fixed,
        folder,
        before,
        result.metrics["accuracy"],
        tuple(result.history),
    )


@dataclass(frozen=True)
class _Losing:
    """What a network could lose, and what it has then."""

    channels: Channels
    figures: Callable[[Lost], Figures]
    smallest: Figures


def _may_lose(
    source: Located, budget: Budget | None, options: SlimOptions, observer: Observer
) -> _Losing:
    skeleton = source.skeleton()
    channels = find_channels(source, skeleton, observer)
    figures = figures_without(skeleton, source.input_size, channels.groups)
    smallest = smallest_of(that_can_lose(skeleton, channels.groups, options), figures, options)
    if budget is not None:
        check_not_met(source, figures({}), budget, options)
        check_reachable(source, budget, smallest, options)
    return _Losing(channels, figures, smallest)


@dataclass(frozen=True)
class _Teaching:
    """A teacher that is ready to teach."""

    located: Located
    network: nn.Module
    read: OutputReader
    view: View | None
    untrained: bool


def _teach(
    guide: Located, images: Data, settings: TrainingSettings, observer: Observer
) -> _Teaching:
    view = view_of(guide, images, by_order=settings.classes_by_order, observer=observer)
    network, loaded = guide.load(seed=settings.seed)
    tell_weights(loaded, observer)
    check_scores(guide, loaded.untrained, images, settings)
    read = read_outputs(network, images, guide.label, observer, guide.input_size)
    return _Teaching(guide, network, read, view, bool(loaded.untrained))


def _settings(settings: TrainingSettings, options: SlimOptions) -> TrainingSettings:
    """The settings of the run: gates do not decay."""
    if options.gated and GATES not in settings.group_decay:
        decay = {**settings.group_decay, GATES: 0.0}
        settings = settings.model_copy(update={"group_decay": decay})
    return settings


def _config(
    config: ArtefactConfig,
    shrinking: Shrinking,
    before: float | None,
    teaching: _Teaching | None,
) -> ArtefactConfig:
    """The configuration of the folder; the run adds the widths and what it measures."""
    options, whole = shrinking.options, shrinking.before
    chosen = options.model_dump()
    asked = None if shrinking.budget is None else shrinking.budget.given()
    return config.model_copy(
        update={
            "metrics": {} if before is None else {"before_accuracy": before},
            "training": {
                **config.training,
                **({} if teaching is None else taught(teaching.located, teaching.network)),
                "slimmed": {**chosen, "budget": asked, **asdict(whole)},
            },
        }
    )


def _tell_least(shrinking: Shrinking, observer: Observer) -> None:
    """Says which groups could have lost everything, had they not had to stay connected."""
    least = shrinking.at_their_least()
    if least:
        observer.message(
            f"{listed(least, 5)}: of these channels as many stayed as must (--least "
            f"{shrinking.options.least:g}, and at least one)."
        )
