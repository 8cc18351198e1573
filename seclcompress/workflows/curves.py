"""The whole curve of plans: the least loss against what a network may have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seclcompress import artefact, extras
from seclcompress.budget import Candidate, Curve, Point
from seclcompress.budget.choice import need_solver
from seclcompress.errors import PlanError, UsageError
from seclcompress.export.clock import clock_of
from seclcompress.observer import Logging, Observer
from seclcompress.report.curve import curve_csv, curve_png
from seclcompress.report.page.curve import curve_html
from seclcompress.settings.budget import FAMILIES, Quantity
from seclcompress.settings.planning import PlanOptions
from seclcompress.settings.sensitivity import SensitivityOptions
from seclcompress.settings.training import TrainingSettings
from seclcompress.workflows.budgeting import check_asked
from seclcompress.workflows.calibrating import find_with_images
from seclcompress.workflows.candidates import Listed, list_candidates
from seclcompress.workflows.locating import Network
from seclcompress.workflows.output_files import check_file, write_one
from seclcompress.workflows.within_time import timing_plans

#: The ending of a curve's file says what it is.
ENDINGS = (".csv", ".png", ".html")
#: Limits that are tried, each the same factor larger than the one before.
POINTS = 24


def pareto(
    network: Network,
    output: str | Path | None = None,
    *,
    quantity: Quantity = "parameters",
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
) -> Curve:
    """Plans for budgets from the smallest that can be met to that of the network as it is.

    Each point is what `plan` chooses within that limit; losses are those of `plan`. Against time, the
    limits are predicted, and each plan is timed as a whole (`within_time.timing_plans`). A plan that
    takes longer than another one, and loses no less, is no point.

    Args:
        network: As in `plan`.
        output: A file to write the curve to, which ends in .csv, .png or .html; None for no file.
        quantity: What is limited: `parameters`, `mult_adds`, or `nanoseconds` of an image.
        families: As in `plan`.
        options: As in `plan`.
        runtime: The runtime in which an image is timed; None for torch.
        data: As in `plan`.
        sensitivity: As in `plan`.
        settings: As in `plan`.
        data_dir: As in `plan`.
        weights: As in `plan`.
        weights_key: As in `plan`.
        input_size: As in `plan`.
        num_classes: As in `plan`.
        factory: As in `plan`.
        download: As in `plan`.
        overwrite: Whether an existing file may be replaced.
        observer: Receives reports of the work.

    Raises:
        UsageError: As in `plan`, or if the file is called otherwise, or matplotlib is not installed
            for a picture, or a runtime is named where nothing is timed.
        PlanError: If no layer may change.
        SeclcompressError: As in `plan`.
    """
    observer, options = observer or Logging(), options or PlanOptions()
    check_asked(families, options)
    timed = quantity == "nanoseconds"
    if runtime is not None and not timed:
        raise UsageError("--runtime does nothing without --against ms: nothing is timed.")
    if timed:
        clock_of(runtime)  # what is not there is said before the work
    need_solver("plan --pareto")
    path = None if output is None else Path(output)
    if path is not None:
        if path.suffix.lower() not in ENDINGS:
            raise UsageError(f"--pareto {path}: the file ends in {', '.join(ENDINGS)}.")
        if path.suffix.lower() != ".csv":
            extras.need("a picture of the curve", "pictures", "matplotlib")
        check_file(path, overwrite, replaces=lambda _: False)
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
    if not listed.movable:
        raise PlanError(f"No layer of {located.label} may change, so there is no curve.")
    if timed:
        listed = listed.timed(runtime, observer)
    listed = listed.fitted(observer, measuring)
    planned = _planned(listed, quantity, observer)
    if timed:
        points = _timed(listed, planned, runtime, observer)
    else:
        points = [_point(listed, limit, chosen) for limit, chosen in planned]
    curve = Curve(
        located.label,
        quantity,
        listed.families,
        listed.source,
        listed.movable,
        tuple(points),
        data=listed.data,
        images=listed.images,
        runtime=None if listed.times is None else listed.times.runtime,
    )
    if path is not None:
        write_one(path, _content(curve, path.suffix.lower()))
        observer.message(f"Wrote {path}.")
        curve = replace(curve, output=path)
    return curve


def _planned(
    listed: Listed, quantity: Quantity, observer: Observer
) -> list[tuple[int, list[Candidate]]]:
    """The different plans for limits from the least on, each with its first limit."""
    limits = _limits(listed, quantity)
    found: dict[tuple[int, ...], tuple[int, list[Candidate]]] = {}
    with observer.counting("Planning", len(limits)) as tell:
        for number, limit in enumerate(limits, 1):
            chosen = listed.choose({quantity: limit})
            found.setdefault(tuple(listed.amounts(chosen).values()), (limit, chosen))
            tell(number, len(limits))
    return list(found.values())


def _limits(listed: Listed, quantity: Quantity) -> list[int]:
    """Limits from the least to the most: a factor apart, or of time, whose least may be 0, a step."""
    reach = listed.reachable[quantity]
    if quantity == "nanoseconds":
        step = (reach.most - reach.least) / (POINTS - 1)
        return sorted({reach.most, *(reach.least + round(step * n) for n in range(POINTS - 1))})
    least = max(reach.least, 1)
    step = (max(reach.most, least) / least) ** (1 / (POINTS - 1))
    between = [round(least * step**number) for number in range(1, POINTS - 1)]
    return sorted({reach.least, *between, reach.most})


def _timed(
    listed: Listed,
    planned: Sequence[tuple[int, Sequence[Candidate]]],
    runtime: str | None,
    observer: Observer,
) -> list[Point]:
    """The points of plans that were timed, the fastest first; without those that a faster one beats."""
    points = []
    with timing_plans(listed, {}, runtime, observer) as timed:
        for limit, chosen in planned:
            attempt = timed(chosen)
            points.append(
                replace(
                    _point(listed, limit, attempt.chosen),
                    milliseconds=1e3 * attempt.measured,
                    predicted=1e3 * attempt.predicted,
                )
            )
    best: list[Point] = []
    for point in sorted(points, key=lambda one: (one.amount("nanoseconds"), one.loss)):
        if not best or point.loss < best[-1].loss:
            best.append(point)
    return best


def _point(listed: Listed, limit: int, chosen: Sequence[Candidate]) -> Point:
    has = listed.amounts(chosen)
    families = Counter(
        one.entry.substitution for one in chosen if one.entry.substitution is not None
    )
    loss, by_number = listed.loss(chosen), dict(families.most_common())
    return Point(limit, has["parameters"], has["mult_adds"], loss, by_number)


def _content(curve: Curve, ending: str) -> bytes:
    if ending == ".csv":
        return curve_csv(curve).encode()
    if ending == ".png":
        return curve_png(curve)
    return curve_html(curve, artefact.library_versions()["seclcompress"]).encode()
