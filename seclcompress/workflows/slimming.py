"""Narrows a network to a budget: its channels in groups, how much each weighs, and which are lost."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from torch import nn

from seclcompress import artefact
from seclcompress.artefact import ArtefactConfig
from seclcompress.errors import NetworkError, UsageError
from seclcompress.files import check_free
from seclcompress.graph import (
    Channels,
    kept_by_layer,
    narrow_network,
    narrowed_widths,
    why_not_together,
)
from seclcompress.networks.weights import check_finite
from seclcompress.observer import Logging, Observer, after_checks
from seclcompress.resolve import Located
from seclcompress.settings.budget import Budget, check_untimed, parse_budget
from seclcompress.settings.slimming import SlimOptions
from seclcompress.settings.training import TrainingSettings
from seclcompress.slim import (
    Lost,
    Slimmed,
    figures_without,
    norms,
)
from seclcompress.workflows.cards import card_of_slimming
from seclcompress.workflows.converting import config_of
from seclcompress.workflows.locating import (
    Network,
    find_original,
    is_trained,
    name_factory,
    tell_input_size,
    tell_random,
    tell_weights,
)
from seclcompress.workflows.looking import look
from seclcompress.workflows.opening import tell_left_out
from seclcompress.workflows.output_files import check_no_input
from seclcompress.workflows.runs import Stopping
from seclcompress.workflows.sizing import choose_input_size
from seclcompress.workflows.slimming_checks import check_end
from seclcompress.workflows.slimming_in_training import slim_in_training
from seclcompress.workflows.widths_to_lose import (
    check_not_met,
    check_reachable,
    choose_lost,
    counting_rewritten,
    find_channels,
    smallest_of,
    that_can_lose,
    widths_left,
)


def slim(
    network: Network,
    budget: Budget | str | None,
    output_dir: str | Path | None = None,
    *,
    options: SlimOptions | None = None,
    data: str | None = None,
    settings: TrainingSettings | None = None,
    teacher: str | Path | None = None,
    teacher_weights: str | None = None,
    teacher_weights_key: str | None = None,
    untrained_teacher: bool = False,
    data_dir: Path | None = None,
    weights: str | None = None,
    weights_key: str | None = None,
    input_size: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    factory: str | None = None,
    download: bool = False,
    recipe: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    time_limit: float | None = None,
    stopping: Stopping = contextlib.nullcontext,
    seed: int = 0,
    observer: Observer | None = None,
) -> Slimmed:
    """Removes whole channels of a network until it meets a budget.

    The rest keeps its weights, so that `distill` or `train` can go on from there, and `convert` can
    rewrite what is left. By default the channels of the least norm are lost at once, and nothing is
    trained. With options that train (`SlimOptions.trains`) they are lost during a training run, which
    can be interrupted and resumed as that of `train` or, with a teacher, of `distill`.

    Args:
        network: A network as on the command line, a saved folder, or a located network.
        budget: The budget, or as on the command line: `parameters=100k,mult-adds=50M`. With a price, or
            a share of energy, it may be None.
        output_dir: The folder to write; None to only choose.
        options: How channels are chosen.
        data: A data set to measure the accuracy on before and after, and to estimate batch norm's
            statistics anew from; None for neither. By singular values, its pictures say what is lost.
        settings: The training settings. Of a network that is not trained, those in
            `settings.training.EVALUATION` are used with data.
        teacher: A network to learn from while channels are lost, as in `distill`; None for the labels
            alone.
        teacher_weights: As in `distill`.
        teacher_weights_key: As in `distill`.
        untrained_teacher: As in `distill`.
        data_dir: The folder of torchvision's data sets.
        weights: A weights file, or torchvision's name of published weights.
        weights_key: Where in the file the weights stand.
        input_size: (channels, *spatial); by default the folder's, or the network's usual size.
        num_classes: The number of outputs of the classifier.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether published weights, or a repository of the Hub, may be downloaded.
        recipe: As in `train`.
        resume: As in `train`.
        overwrite: Whether an existing output folder that this program wrote may be replaced.
        time_limit: As in `train`.
        stopping: As in `train`.
        seed: Seed of untrained weights; of a training run, that of the settings counts.
        observer: Receives reports of the work.

    Raises:
        UsageError: If an option is out of range, or the network is converted already: its new layers
            have no channels that could be lost.
        NetworkError: If the network is unknown, cannot run at this input size, or has no channels that
            could be lost.
        WeightsError: If the weights cannot be read, do not fit, or are not finite.
        PlanError: If the budget cannot be met, or is met already.
        ArtefactError: If the output folder is taken or cannot be written.
        InterruptedRunError: If a training run was stopped; it can be resumed with `resume`.
    """
    observer, options = observer or Logging(), options or SlimOptions()
    asked = parse_budget(budget) if isinstance(budget, str) else budget
    check_untimed(asked, "slim")
    if options.trains:
        return slim_in_training(
            network,
            asked,
            output_dir,
            options=options,
            data=data,
            settings=settings or TrainingSettings(),
            teacher=teacher,
            teacher_weights=teacher_weights,
            teacher_weights_key=teacher_weights_key,
            untrained_teacher=untrained_teacher,
            data_dir=data_dir,
            weights=weights,
            weights_key=weights_key,
            input_size=input_size,
            num_classes=num_classes,
            factory=factory,
            download=download,
            recipe=recipe,
            resume=resume,
            overwrite=overwrite,
            time_limit=time_limit,
            stopping=stopping,
            observer=observer,
        )
    check_end(asked, options)
    if options.looks and data is None:
        raise UsageError("--method svd looks at pictures: name a data set with --data.")
    for name, value in {
        "--teacher": teacher,
        "--resume": resume,
        "--time-limit": time_limit,
    }.items():
        if value not in (None, False):
            raise UsageError(
                f"{name} is for a network that is trained while it loses channels: by --method gates or "
                "sigmoid, or in --rounds. Drop it, or distill what comes out."
            )
    folder = None if output_dir is None else Path(output_dir)
    if folder is not None:
        check_no_input(folder, network)
        check_free(folder, overwrite)
    with after_checks(observer) as checked:
        if data is not None:
            input_size = choose_input_size(
                network,
                data,
                input_size,
                weights=weights,
                validation=(settings or TrainingSettings()).validation,
                train=False,
                observer=checked,
            )
        located = find_original(
            network,
            "Slim",
            weights=weights,
            weights_key=weights_key,
            num_classes=num_classes,
            input_size=input_size,
            factory=factory,
            download=download,
        )
        tell_input_size(located, checked)
        skeleton = located.skeleton()
        channels = find_channels(located, skeleton, checked)
        measure = figures_without(skeleton, located.input_size, channels.groups)
        within = measure
        if options.rewritten_as is not None:
            counting = counting_rewritten(options)
            within = figures_without(skeleton, located.input_size, channels.groups, counting)
        before = measure({})
        groups = that_can_lose(skeleton, channels.groups, options)
        smallest = smallest_of(groups, measure, options)
        if asked is not None:
            check_not_met(located, within({}), asked, options)
            check_reachable(located, asked, smallest_of(groups, within, options), options)
        built, loaded = located.load(seed=seed)
        check_finite(built.state_dict(), located.label)
        tell_weights(loaded, checked)
        tell_random(located, checked)
        looking = None
        if data is not None:
            looking = look(
                located,
                built,
                data,
                settings or TrainingSettings(),
                draws=options.looks,
                data_dir=data_dir,
                download=download,
                observer=checked,
            )
    accuracy = None if looking is None else looking.accuracy(built)
    spectra = None
    if options.looks and looking is not None:
        spectra = looking.spectra(options.pictures)
        atoms = sum(len(one.atoms) for one in groups)
        with observer.counting("Weighing channels", atoms) as tell:
            weighs = spectra.shares(built, groups, tell)
    else:
        weighs = [norms(built, one) for one in groups]
    with observer.working("Choosing channels …"):
        weighed = list(zip(groups, weighs, strict=True))
        lost, then = choose_lost(located, weighed, within, asked, options)
    done = Slimmed(
        located.label,
        asked,
        options,
        before,
        measure(lost),
        smallest,
        widths_left(
            channels.groups,
            {one.name: len(one.atoms) - len(lost.get(one.name, ())) for one in channels.groups},
        ),
        channels.fixed,
        accuracy_before=accuracy,
        rewritten=None if options.rewritten_as is None else then,
    )
    _check(skeleton, channels, lost)
    if looking is not None and not options.looks:
        observer.message(
            "The channels are chosen by their weights' norms. --method svd chooses them by what these "
            "images need, and keeps more of the accuracy (docs/slimming.md)."
        )
    if folder is None:
        if looking is not None:
            tell_left_out(looking.images)
        return done
    if spectra is not None:
        spectra.mend(built, groups, lost, {})
    kept = kept_by_layer(built, channels.groups, lost)
    narrow_network(built, kept)
    if looking is not None:
        looking.estimate_batch_norm(built)
        done = replace(done, accuracy_after=looking.accuracy(built))
        tell_left_out(looking.images)
        built.cpu().eval()
    widths = {**located.network.widths, **narrowed_widths(built, kept)}
    config = _config(located, widths, seed, done)
    card = card_of_slimming(located, config, before.parameters, observer.message)
    artefact.save(folder, built, config, extra=card, overwrite=overwrite)
    observer.message(_what_next(located, folder, options))
    return replace(done, output_dir=folder)


def _what_next(located: Located, folder: Path, options: SlimOptions) -> str:
    factory = name_factory(located)
    if options.rewritten_as is None:
        return (
            f"Wrote {folder}. It has lost channels that it was used to: train it, or distill it from "
            f"{located.label}, before it is used or converted.{factory}"
        )
    return (
        f"Wrote {folder}. Convert it with --substitution {options.rewritten_as}, recover that from "
        f"{folder}, and distill it from {located.label}.{factory}"
    )


def _check(skeleton: nn.Module, channels: Channels, lost: Lost) -> None:
    """Tries the whole choice once more; the trials were of single channels."""
    reason = why_not_together(skeleton, channels.input_size, channels.groups, lost)
    if reason is not None:
        raise NetworkError(f"These channels cannot be lost together: {reason}.")


def _config(
    located: Located, widths: dict[str, tuple[int, int]], seed: int, done: Slimmed
) -> ArtefactConfig:
    """The configuration of a narrowed network's folder."""
    config = config_of(located, None, seed)
    figures = {"accuracy": done.accuracy_after, "teacher_accuracy": done.accuracy_before}
    measured = {name: value for name, value in figures.items() if value is not None}
    return config.model_copy(
        update={
            "network": located.network.model_copy(update={"widths": widths}),
            "metrics": {**config.metrics, **measured},
            "trained_before_slimming": is_trained(located),
        }
    )
