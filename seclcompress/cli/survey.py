"""`seclcompress survey`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Annotated, Any

import typer

from seclcompress.cli.console import loading
from seclcompress.cli.drawing import Drawing
from seclcompress.cli.planning import Asked, with_planning
from seclcompress.cli.streams import results, write_result
from seclcompress.errors import NetworkError, UsageError
from seclcompress.settings.planning import PlanOptions


@with_planning(leave_out=("assign", "keep", "only", "whole_network", "plan"))
def survey(
    *,
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Only names that match, as 'resnet*'.")
    ] = "*",
    csv: Annotated[bool, typer.Option("--csv", help="The same figures as CSV.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="The same figures as JSON, a line for each network.")
    ] = False,
    asked: Asked,
) -> None:
    """Say what a rewrite would do to all of torchvision's networks, one line each."""
    if json and csv:
        raise UsageError("--json and --csv exclude each other.")
    with loading():
        from seclcompress.workflows.surveying import survey as run
    options = asked.options or PlanOptions()
    # On a terminal the lines themselves show how far the work is, if it does not measure.
    quick = options.cost_model == "paper"
    observer = None if quick and on_terminal() else Drawing()
    lines = run(pattern, options=options, observer=observer)
    heading, show = _shown([options.substitution], csv=csv, json=json)
    write_result(heading, end="")
    failed, walked = [], 0
    for surveyed in lines:
        walked += 1
        write_result(show(surveyed), end="")
        if surveyed.refused is not None and not surveyed.expected:
            failed.append(surveyed.network)
    if failed:
        raise NetworkError(f"{len(failed)} of {walked} networks failed: {', '.join(failed)}.")


def _shown(families: list[str], *, csv: bool, json: bool) -> tuple[str, Callable[[Any], str]]:
    """The heading, and what makes the lines of a network."""
    from seclcompress.report import survey as drawn

    if json:
        return "", lambda one: drawn.survey_record(one).to_line() + "\n"
    if csv:
        return drawn.survey_csv(families), lambda one: drawn.survey_csv(families, one)
    heading = drawn.survey_header(families)
    width = shutil.get_terminal_size().columns
    if on_terminal() and width < max(map(len, heading.splitlines())):
        return "", lambda one: drawn.survey_paragraph(families, one, width) + "\n"
    return heading + "\n", lambda one: drawn.survey_line(families, one) + "\n"


def on_terminal() -> bool:
    """Whether standard output is a terminal, where lines must not be wider than it."""
    return results().isatty()
