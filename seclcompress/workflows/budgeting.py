"""Plans for a budget: what can be reached, what each layer may become, and what loses least."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seclcompress import budget as budgets
from seclcompress import substitutions
from seclcompress.budget import Budgeted, Candidate, ImageTime
from seclcompress.budget.choice import need_solver
from seclcompress.count import check_rewritten, count_network
from seclcompress.errors import PlanError, UsageError
from seclcompress.export.clock import clock_of
from seclcompress.observer import Logging, Observer
from seclcompress.plan.decide import nothing_to_do
from seclcompress.plan.given import is_plan
from seclcompress.rewrite import rewrite_network
from seclcompress.settings.budget import FAMILIES, WORDS, Budget, parse_budget
from seclcompress.settings.planning import LEFT_ALONE, PlanOptions
from seclcompress.settings.sensitivity import SensitivityOptions
from seclcompress.settings.training import TrainingSettings
from seclcompress.wording import milliseconds
from seclcompress.workflows.calibrating import find_with_images
from seclcompress.workflows.candidates import Listed, list_candidates
from seclcompress.workflows.locating import Network
from seclcompress.workflows.output_files import check_file, write_one
from seclcompress.workflows.within_time import Attempt, check_time, hold_time


def plan(
    network: Network,
    budget: Budget | str,
    output: str | Path | None = None,
    *,
    families: Sequence[str] = FAMILIES,
    options: PlanOptions | None = None,
    runtime: str | None = None,
    data: str | None = None,
    sensitivity: SensitivityOptions | None = None,
    settings: TrainingSettings | None = None,
    data_dir: Path | None = None,
    weights: str | None = None,
    weights_key: str | None = None,
    input_size: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    factory: str | None = None,
    download: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Budgeted:
    """Plans what becomes of each layer so that the network meets a budget and loses least.

    With trained weights (a saved folder's, or `weights`), a layer's loss is the share of their energy
    that the fitted replacement misses, or with `data` what it misses of the layer's outputs on training
    images; without weights, the share of its parameters that is saved. A limit of milliseconds is looked
    at first by a prediction: the network's measured time, and what each replacement takes more or less
    than its layer, each pair timed alone. Then the whole network is timed as planned, and planned again
    where the clock says something else (`within_time.hold`).

    Args:
        network: A network as on the command line, a saved folder, or a located network.
        budget: The budget, or as on the command line: `parameters=100k,mult-adds=50M,ms=20`.
        output: A file to write the plan to, for `convert`; None for no file.
        families: The families among which is chosen; a layer may also stay as it is.
        options: Which layers are left alone: `keep`, `only`, `stem`, `linear`, `head`, `min_channels`.
        runtime: The runtime in which milliseconds are limited: `onnxruntime` or another of `bench`; None
            for torch.
        data: A data set on whose training images it is measured what layers lose; None for no images.
        sensitivity: What is measured, and on how many images.
        settings: Of the training settings, those in `settings.training.EVALUATION` and the seed, which
            draws the images, are used with data.
        data_dir: The folder of torchvision's data sets.
        weights: A weights file, or torchvision's name of published weights.
        weights_key: Where in the file the weights stand.
        input_size: (channels, *spatial); by default the folder's, or the network's usual size.
        num_classes: The number of outputs of the classifier.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether published weights, or a repository of the Hub, may be downloaded.
        overwrite: Whether an existing plan at `output` may be replaced.
        observer: Receives what can be reached before anything is fitted, and then reports of the work.

    Raises:
        UsageError: If a family or an option is unknown, the network is converted already or has no
            trained weights for the data, scipy is not installed, or a runtime is named without a limit
            of milliseconds, unknown or not installed.
        ExportError: If a layer cannot be timed in the runtime.
        DataError: If the data cannot be read, or do not fit the network.
        NetworkError: If the network is unknown, or cannot run at this input size.
        WeightsError: If the weights cannot be read or do not fit.
        PlanError: If no plan meets the budget (`budget.NotReachableError`), or nothing would change.
        ArtefactError: If the output is taken.
    """
    observer, options = observer or Logging(), options or PlanOptions()
    asked = parse_budget(budget) if isinstance(budget, str) else budget
    if not asked.limits:
        raise UsageError("The budget is empty. Say what the network may have, as parameters=100k.")
    check_asked(families, options)
    if runtime is not None and asked.ms is None:
        raise UsageError("--runtime does nothing without a limit of time: add ms=… to --budget.")
    if asked.ms is not None:
        clock_of(runtime)  # what is not there is said before the work
    need_solver("plan --budget")
    path = None if output is None else Path(output)
    if path is not None:
        check_file(path, overwrite, replaces=is_plan)
    located, measuring = find_with_images(
        network,
        data,
        sensitivity or SensitivityOptions(),
        settings,
        data_dir=data_dir,
        weights=weights,
        weights_key=weights_key,
        num_classes=num_classes,
        input_size=input_size,
        factory=factory,
        download=download,
        observer=observer,
    )
    listed = list_candidates(located, families, options)
    ranges = [f"{r.least:,} to {r.most:,} {WORDS[q]}" for q, r in listed.reachable.items()]
    observer.message(f"{located.label} can have {' and '.join(ranges)}.")
    chosen = _choose(listed, asked.untimed)
    known = True
    if asked.ms is not None:
        listed = _timed(listed, asked, runtime, observer)
        known = check_time(listed, asked, runtime, observer)
    by = "" if known else ", as its layers' times predict"
    observer.message(f"The budget of {asked} can be met{by}.")
    listed = listed.fitted(observer, measuring)
    attempt = None
    if asked.ms is not None:
        attempt = hold_time(listed, asked, runtime, observer)
        chosen = list(attempt.chosen)
    elif listed.source != "shapes":
        chosen = _choose(listed, asked)
    found = listed.plan_of(chosen)
    if not found.rewritten:
        raise PlanError(
            f"{located.label} meets the budget as it is ({asked}): nothing is to be rewritten."
            if listed.movable
            else nothing_to_do(found)
        )
    counted = count_network(listed.skeleton, listed.trace, found)
    check_rewritten(rewrite_network(listed.skeleton, found), counted)
    if path is not None:
        write_one(path, found.to_json().encode())
        observer.message(f"Wrote {path}. `seclcompress convert` takes it with --plan.")
    return Budgeted(
        located.label,
        asked,
        listed.families,
        listed.source,
        listed.reachable,
        found,
        counted,
        listed.loss(chosen),
        listed.movable,
        sum(map(len, listed.layers)),
        listed.uniform(asked.limits),
        path,
        listed.data,
        listed.images,
        None if attempt is None else _image_time(listed, attempt),
    )


def check_asked(families: Sequence[str], options: PlanOptions) -> None:
    """Checks what was asked before a network is built.

    Raises:
        UsageError: If there is no family, one is unknown, or an option would do nothing.
    """
    if not families:
        raise UsageError("--families: name at least one family.")
    for name in families:
        substitutions.configured(name, {})
    idle = [
        name
        for name in sorted(options.model_fields_set - set(LEFT_ALONE))
        if getattr(options, name) not in ({}, ())  # which the command line always names
    ]
    if idle:
        raise UsageError(
            f"A plan for a budget chooses what {', '.join(idle)} would: leave it out, and name families."
        )


def _timed(listed: Listed, asked: Budget, runtime: str | None, observer: Observer) -> Listed:
    """The candidates with their times, which nothing but the clock says."""
    rest = (
        f"The budget of {asked.untimed} can be met; whether" if asked.untimed.limits else "Whether"
    )
    observer.message(f"{rest} ms={asked.ms:g} can is known when the layers have been timed.")
    listed = listed.timed(runtime, observer)
    reach = listed.reachable["nanoseconds"]
    least, most = (milliseconds(end / 1e9) for end in (reach.least, reach.most))
    words = f"is predicted to take {least} to {most} ms for an image."
    if reach.least <= 0:
        words = (
            f"takes up to {most} ms for an image. Its layers take more alone than in the network, so "
            "how little it can take is not predicted."
        )
    observer.message(f"{listed.located.label} {words}")
    return listed


def _image_time(listed: Listed, found: Attempt) -> ImageTime:
    assert listed.times is not None
    seconds = (found.original, found.predicted, found.measured)
    return ImageTime(listed.times.runtime, *(1e3 * one for one in seconds))


def _choose(listed: Listed, asked: Budget) -> list[Candidate]:
    """Chooses, or says in words which plan is nearest."""
    try:
        return listed.choose(asked.limits)
    except budgets.NotReachableError as error:
        near = "; ".join(map(str, asked.held(**listed.amounts(error.nearest))))
        raise budgets.NotReachableError(
            f"No plan for {listed.located.label} meets {asked}. The nearest has {near}. "
            f"{error.ADVICE}",
            error.nearest,
        ) from error
