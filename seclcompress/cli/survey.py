"""`seclcompress survey`."""

from __future__ import annotations

from typing import Annotated

import typer

from seclcompress.cli.drawing import Drawing
from seclcompress.cli.planning import Asked, with_planning
from seclcompress.errors import NetworkError
from seclcompress.settings.planning import PlanOptions


@with_planning(leave_out=("assign", "keep", "only", "plan"))
def survey(
    *,
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Only names that match, as 'resnet*'.")
    ] = "*",
    csv: Annotated[bool, typer.Option("--csv", help="The same figures as CSV.")] = False,
    asked: Asked,
) -> None:
    """Say what a rewrite would do to all of torchvision's networks, one line each."""
    from seclcompress import workflows
    from seclcompress.report.survey import survey_csv, survey_header, survey_line

    options = asked.options or PlanOptions()
    families = [options.substitution]
    lines = workflows.survey(pattern, options=options, observer=Drawing())
    typer.echo(survey_csv(families) if csv else survey_header(families), nl=not csv)
    failed, walked = [], 0
    for surveyed in lines:
        walked += 1
        line = survey_csv(families, surveyed) if csv else survey_line(families, surveyed)
        typer.echo(line, nl=not csv)
        if surveyed.refused is not None and not surveyed.expected:
            failed.append(surveyed.network)
    if failed:
        raise NetworkError(f"{len(failed)} of {walked} networks failed: {', '.join(failed)}.")
