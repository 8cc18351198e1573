"""Searches for the best student of a size, or for the smallest that loses little: a tournament."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seclcompress import artefact, substitutions
from seclcompress.budget.choice import need_solver
from seclcompress.errors import PlanError, UsageError
from seclcompress.files import check_free
from seclcompress.observer import Logging, Observer
from seclcompress.report.searching import (
    BEST,
    LEFT_OUT,
    Contender,
    ranked,
    search_csv,
)
from seclcompress.settings.budget import Budget, check_untimed, parse_budget
from seclcompress.settings.planning import PlanOptions
from seclcompress.settings.sensitivity import SensitivityOptions
from seclcompress.settings.tournament import SLIM, Tournament, behind_slim
from seclcompress.settings.training import INCIDENTAL, TrainingSettings
from seclcompress.trackers import check_trackers
from seclcompress.workflows.contenders import Workshop
from seclcompress.workflows.converting import convert
from seclcompress.workflows.held_out import for_comparing, tell_comparing
from seclcompress.workflows.inputs import find_for_training
from seclcompress.workflows.locating import typed
from seclcompress.workflows.output_files import check_no_input
from seclcompress.workflows.runs import InterruptedRunError, Stopping
from seclcompress.workflows.search_folder import begin, claimed, named, work_of, write_best


@dataclass(frozen=True)
class Searched:
    """The result of a search.

    Attributes:
        label: The network.
        parameters: What it has.
        teacher_accuracy: In percent of the test images.
        contenders: All students, size by size.
        best: The one that was chosen.
        folder: The folder that was written, with its network.
        work: The folder that holds all students.
    """

    label: str
    parameters: int
    teacher_accuracy: float
    contenders: tuple[Contender, ...]
    best: Contender
    folder: Path
    work: Path


def search(
    network: str | Path,
    *,
    data: str,
    output_dir: str | Path,
    budget: Budget | str | None = None,
    max_loss: float | None = None,
    tournament: Tournament | None = None,
    settings: TrainingSettings | None = None,
    weights: str | None = None,
    weights_key: str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, ...] | None = None,
    data_dir: Path | None = None,
    factory: str | None = None,
    download: bool = False,
    overwrite: bool = False,
    time_limit: float | None = None,
    stopping: Stopping = contextlib.nullcontext,
    observer: Observer | None = None,
) -> Searched:
    """Tries several kinds of students of a trained network, and keeps the best.

    Each student of a size is planned for it, converted from the network's weights, recovered and then
    distilled, in rounds; after each round the better ones stay (successive halving, Jamieson and
    Talwalkar, 2016, arXiv:1502.07943). They are compared on images that are held out of the training
    images. With `max_loss`, sizes are tried from the largest on, each half of the one before, as long as
    the best student loses no more.

    Every step is a folder in `<output_dir>.search`. The same call, without `overwrite`, goes on where an
    earlier one was stopped.

    Args:
        network: A trained network: a saved folder, or a name together with `weights`.
        data: The name of a data set, one of `data.NAMES`.
        output_dir: The folder to write: the best student, and all candidates as CSV.
        budget: What the student may have, as in `plan`.
        max_loss: Points of accuracy on the test images that the student may lose at most. Either this or
            a budget.
        tournament: What competes, and how.
        settings: The settings of the last round; `validation` is 0.1 if it is None. The learning rate of
            a recovered student is 0.01, unless these name one.
        weights: A weights file, or torchvision's name of published weights.
        weights_key: Where in the file the weights stand; None to look for them.
        num_classes: The number of outputs of the classifier.
        input_size: (channels, *spatial); by default the folder's, or the network's usual size.
        data_dir: The folder of torchvision's data sets.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether published weights, data, or a repository of the Hub may be downloaded.
        overwrite: Whether an earlier output folder of this program is replaced, and an earlier search
            given up.
        time_limit: Seconds after which to save and stop; None for no limit. What is made or recovered
            just then is finished first.
        stopping: As in `train`.
        observer: Receives reports of what happens.

    Raises:
        InterruptedRunError: If it was stopped; the same call goes on, without `overwrite`.
        UsageError: If both or neither of budget and loss are given, a family is unknown, scipy is not
            installed, or an earlier search was begun with other settings.
        PlanError: If no student meets the budget, or none loses so little.
        SeclcompressError: If anything else goes wrong; what was done is kept.
    """
    observer, tournament = observer or Logging(), tournament or Tournament()
    folder, asked = Path(output_dir), parse_budget(budget) if isinstance(budget, str) else budget
    check_untimed(asked, "search")
    chosen = settings or TrainingSettings()
    settings = for_comparing(chosen)
    _check(asked, max_loss, tournament)
    need_solver("search")
    check_trackers(settings.trackers)
    check_no_input(folder, network)
    check_free(folder, overwrite)
    given: dict[str, Any] = {
        "num_classes": num_classes,
        "input_size": input_size,
        "factory": factory,
        "download": download,
    }
    of_weights: dict[str, Any] = {"weights": weights, "weights_key": weights_key}
    # A typing error ends here, before anything is made or given up.
    found, _ = find_for_training(
        typed(network),
        data,
        settings,
        **given,
        **of_weights,
        data_dir=data_dir,
        observer=Observer(),
    )
    tell_comparing("Students", chosen, observer)
    work = work_of(folder)
    until = math.inf if time_limit is None else time.monotonic() + time_limit
    about = {
        "network": named(network, weights),
        "data": data,
        "budget": str(asked),
        "max_loss": max_loss,
        **tournament.model_dump(mode="json"),
        **{name: str(value) for name, value in given.items() if name != "download"},
        "settings": json.loads(settings.model_dump_json(exclude=set(INCIDENTAL))),
    }
    with claimed(work):
        begin(work, about, overwrite)
        workshop = Workshop(
            network,
            data,
            work,
            settings,
            tournament.pictures,
            _measured(tournament),
            given,
            of_weights,
            data_dir,
            stopping,
            lambda: None if until == math.inf else max(until - time.monotonic(), 0.0),
            observer,
        )
        parameters = sum(one.numel() for one in found.skeleton().parameters())
        budgets = [asked] if asked is not None else _sizes(network, tournament, given, of_weights)
        try:
            done, best = _compete(workshop, budgets, tournament, max_loss)
        except InterruptedRunError as stopped:
            raise InterruptedRunError(
                f"Stopped. What was done is in {work}; the same command"
                f"{' without --overwrite' if overwrite else ''} goes on."
            ) from stopped
    label = found.label
    if best is None or best.folder is None:
        raise PlanError(_none(done, label, max_loss, work))
    config = artefact.read_config(Path(best.folder))
    write_best(folder, Path(best.folder), search_csv(done), overwrite)
    observer.message(f"All students are in {work}; remove it when you do not need them.")
    return Searched(
        label, parameters, config.metrics["teacher_accuracy"], tuple(done), best, folder, work
    )


def _check(budget: Budget | None, max_loss: float | None, tournament: Tournament) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("search runs in one process; start it without torchrun.")
    if (budget is None) == (max_loss is None):
        raise UsageError(
            "Say what is looked for: the best student of a size (--budget parameters=100k), or the "
            "smallest that loses little (--max-loss 2). One of the two."
        )
    if max_loss is not None and not 0 <= max_loss <= 100:
        raise UsageError(f"--max-loss {max_loss:g}: it takes points of accuracy from 0 to 100.")
    twice = {name for name in tournament.families if tournament.families.count(name) > 1}
    if twice:
        raise UsageError(f"--families: {', '.join(sorted(twice))} is named twice.")
    for name in tournament.families:
        behind = behind_slim(name)
        if behind is not None and "+" in behind:
            raise UsageError(f"--families: {name}: behind {SLIM}+ there is one family.")
        for family in () if name == SLIM else (name if behind is None else behind).split("+"):
            substitutions.configured(family, {})


def _measured(tournament: Tournament) -> SensitivityOptions:
    """What plans measure: on no more images than a recovery learns from."""
    if tournament.sensitivity == "energy":
        return SensitivityOptions(sensitivity="energy")
    images = min(SensitivityOptions().images, tournament.pictures)
    return SensitivityOptions(sensitivity=tournament.sensitivity, images=images)


def _sizes(
    network: str | Path,
    tournament: Tournament,
    given: Mapping[str, Any],
    of_weights: Mapping[str, Any],
) -> list[Budget]:
    """The sizes of a search for a small loss: that of the plain separable network, and its halves."""
    plain = PlanOptions(substitution="separable")
    counted = convert(network, options=plain, observer=Observer(), **given, **of_weights).count
    largest = counted.columns["auto"].parameters
    return [Budget(parameters=largest // 2**step) for step in range(tournament.sizes)]


def _compete(
    workshop: Workshop,
    budgets: Sequence[Budget],
    tournament: Tournament,
    max_loss: float | None,
) -> tuple[list[Contender], Contender | None]:
    """All students, and the one that is chosen: the best of the last size that is good enough."""
    done: list[Contender] = []
    chosen: Contender | None = None
    for budget in budgets:
        here = _of_size(workshop, budget, tournament)
        first = ranked(here)[0]
        good = first.last is not None and first.folder is not None
        if good and max_loss is not None:
            assert first.last is not None
            assert first.folder is not None
            teacher = artefact.read_config(Path(first.folder)).metrics["teacher_accuracy"]
            good = teacher - first.last.accuracy <= max_loss
        if good:
            chosen = replace(first, state=BEST)
            here = [chosen if one is first else one for one in here]
        done += here
        if not good:
            break
    return done, chosen


def _of_size(workshop: Workshop, budget: Budget, tournament: Tournament) -> list[Contender]:
    """The students of one size after their rounds."""
    made = [workshop.make(name, budget) for name in tournament.families]
    for one in made:
        if one.state == LEFT_OUT:
            workshop.observer.message(f"{one.name} is left out: {one.reason}.")
    made = [one if one.state == LEFT_OUT else workshop.recover(one, budget) for one in made]
    recovered = [one for one in made if one.rounds]
    # What cannot be recovered has not been compared yet, so it stays.
    stay = [one for one in made if not one.rounds and one.state != LEFT_OUT]
    stay += ranked(recovered)[: _kept(len(recovered), tournament)]
    out = [one for one in made if one not in stay]
    for number, epochs in enumerate(tournament.rounds(workshop.settings.epochs)):
        if number:
            places = ranked(stay)
            keep = _kept(len(places), tournament)
            stay, out = places[:keep], [*out, *places[keep:]]
        stay = [
            one if one.state == LEFT_OUT else workshop.distill(one, budget, epochs) for one in stay
        ]
    return [*ranked(stay), *ranked(out)]


def _kept(count: int, tournament: Tournament) -> int:
    return min(count, max(1, math.ceil(count * tournament.keep)))


def _none(done: Sequence[Contender], label: str, max_loss: float | None, work: Path) -> str:
    """Why no student was chosen."""
    tried = [one for one in done if one.last is not None]
    if not tried:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in done)
        return f"There is no student of {label} to choose from. {reasons}."
    first = ranked(tried)[0]
    assert first.last is not None
    return (
        f"No student of {label} loses {max_loss:g} points at most: the best, {first.name} of "
        f"{first.parameters:,} parameters, has {first.last.accuracy:.2f} % of the test images right. "
        f"Allow more, give it more --epochs, or a larger --budget. All students are in {work}."
    )
