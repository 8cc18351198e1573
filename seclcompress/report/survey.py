"""A survey: lines or paragraphs for people, and the same figures as CSV or a record for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from textwrap import fill

from seclcompress.report.records import SurveyRecord
from seclcompress.report.tables import column_titles, occurrences
from seclcompress.survey import Surveyed
from seclcompress.wording import shape

#: Widths of a survey's columns. Figures are exact, so that surveys can be compared line by line.
_PARAMETERS, _MULT_ADDS, _NAME = 12, 16, 38


def survey_header(families: Sequence[str]) -> str:
    """The two heading lines of a survey.

    Args:
        families: The names of the families that layers are rewritten as.
    """
    short = [title.split()[-1] for title in column_titles(families).values()]
    groups = (
        f"{'':{_NAME}} {'layers':>11} {'parameters':^{len(short) * (_PARAMETERS + 1)}}"
        f"{'Mult-Adds (MACs)':^{len(short) * (_MULT_ADDS + 1)}}{'chosen: times':>16}"
    )
    columns = "".join(f" {title:>{_PARAMETERS}}" for title in short)
    columns += "".join(f" {title:>{_MULT_ADDS}}" for title in short)
    heading = f"{'network':{_NAME}} {'now':>5} {'kept':>5}{columns} {'smaller':>7} {'fewer':>7}"
    return f"{groups.rstrip()}\n{heading} {'s':>5}  kept because"


def survey_line(families: Sequence[str], surveyed: Surveyed) -> str:
    """The line of one network: layers rewritten and kept, figures, ratios, seconds, reasons.

    Args:
        families: The names of the families that layers are rewritten as.
        surveyed: The network's figures, or why it was refused.
    """
    counted = surveyed.counted
    if counted is None:
        return f"{surveyed.network:{_NAME}} refused: {surveyed.refused}"
    columns = [counted.column(name) for name in column_titles(families)]
    figures = "".join(f" {totals.parameters:>{_PARAMETERS},}" for totals in columns)
    figures += "".join(f" {totals.mult_adds:>{_MULT_ADDS},}" for totals in columns)
    smaller, fewer = (counted.ratio("auto", quantity) for quantity in ("parameters", "mult_adds"))
    kept = _reasons(surveyed)
    if counted.unknown:
        kept += f"; not counted: {occurrences(counted.unknown)}"
    layers = f"{surveyed.rewritten:>5} {sum(times for _, times in surveyed.kept):>5}"
    return (
        f"{surveyed.network:{_NAME}} {layers}{figures} {smaller:>7.2f} {fewer:>7.2f} "
        f"{surveyed.seconds:>5.1f}  {kept}"
    )


def survey_paragraph(families: Sequence[str], surveyed: Surveyed, width: int) -> str:
    """The figures of `survey_line` as some lines, for a terminal that is too narrow for one.

    Args:
        families: The names of the families that layers are rewritten as.
        surveyed: The network's figures, or why it was refused.
        width: The width of the terminal in characters.
    """
    counted = surveyed.counted
    if counted is None:
        return fill(f"{surveyed.network}: refused: {surveyed.refused}", width)
    chosen = {quantity: counted.ratio("auto", quantity) for quantity in ("parameters", "mult_adds")}
    lines = [
        f"{surveyed.network}: {chosen['parameters']:.2f} times smaller, "
        f"{chosen['mult_adds']:.2f} times fewer Mult-Adds"
    ]
    for name, title in column_titles(families).items():
        totals = counted.column(name)
        lines.append(f"  {title}: {totals.parameters:,} parameters, {totals.mult_adds:,} Mult-Adds")
    kept = "; ".join(_kept(surveyed))
    lines.append(f"  {surveyed.rewritten} layers rewritten{f'; kept: {kept}' if kept else ''}")
    lines += [f"  {words}" for words in _slower(surveyed)]
    if counted.unknown:
        lines.append(f"  not counted: {occurrences(counted.unknown)}")
    return "\n".join(fill(line, width, subsequent_indent="    ") for line in lines)


def survey_csv(families: Sequence[str], surveyed: Surveyed | None = None) -> str:
    """The line of one network as CSV, with its newline.

    Args:
        families: The names of the families that layers are rewritten as.
        surveyed: The network's figures; None for the line with the names of the columns.
    """
    quantities = ("parameters", "mult_adds")
    columns = list(column_titles(families))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if surveyed is None:
        names = [f"{column}_{quantity}" for quantity in quantities for column in columns]
        writer.writerow(["network", "input_size", "rewritten", "kept", *names, "seconds", "why"])
        return text.getvalue()
    kept = _reasons(surveyed)
    counted = surveyed.counted
    size = "" if counted is None else shape(counted.input_size)
    numbers: list[int | str] = [""] * (2 * len(columns))
    if counted is not None:
        totals = [counted.column(name) for name in columns]
        numbers = [getattr(column, quantity) for quantity in quantities for column in totals]
    layers = [surveyed.rewritten, sum(times for _, times in surveyed.kept)]
    why = surveyed.refused or kept
    writer.writerow([surveyed.network, size, *layers, *numbers, f"{surveyed.seconds:.2f}", why])
    return text.getvalue()


def survey_record(surveyed: Surveyed) -> SurveyRecord:
    """The figures of one network, for programs."""
    counted = surveyed.counted
    return SurveyRecord(
        network=surveyed.network,
        input_size=None if counted is None else counted.input_size,
        rewritten=surveyed.rewritten,
        kept=dict(surveyed.kept),
        slower=dict(surveyed.slower),
        columns=None if counted is None else counted.columns,
        unknown={} if counted is None else counted.unknown,
        refused=surveyed.refused,
        expected=surveyed.expected,
        seconds=surveyed.seconds,
    )


def _reasons(surveyed: Surveyed) -> str:
    return "; ".join([*_kept(surveyed), *_slower(surveyed)])


def _kept(surveyed: Surveyed) -> list[str]:
    return [f"{reason} (×{times})" for reason, times in surveyed.kept]


def _slower(surveyed: Surveyed) -> list[str]:
    return [
        f"rewritten, though slower in {runtime} (×{times})"
        for runtime, times in surveyed.slower.items()
    ]
