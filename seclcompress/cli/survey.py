"""`seclcompress survey`."""

from __future__ import annotations

from typing import Annotated

import typer

from seclcompress.cli import options as o
from seclcompress.cli import planning
from seclcompress.errors import NetworkError


def survey(
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Only names that match, as 'resnet*'.")
    ] = "*",
    csv: Annotated[bool, typer.Option("--csv", help="The same figures as CSV.")] = False,
    substitution: o.SubstitutionOption = "acdc",
    depth: o.DepthOption = None,
    option: o.OptionOption = None,
    stem: o.StemOption = False,
    linear: o.LinearOption = False,
    head: o.HeadOption = False,
    min_channels: o.MinChannelsOption = 1,
) -> None:
    """Say what a rewrite would do to all of torchvision's networks, one line each."""
    wanted = planning.plan_options(
        substitution,
        depth,
        option,
        keep=None,
        only=None,
        stem=stem,
        linear=linear,
        head=head,
        min_channels=min_channels,
        cost_model=o.CostModel.paper,
    )
    from fnmatch import fnmatchcase

    from seclcompress.report.survey import survey_csv, survey_header, survey_line
    from seclcompress.survey import names
    from seclcompress.survey import survey as run

    found = [name for name in names() if fnmatchcase(name, pattern)]
    if not found:
        raise NetworkError(f"None of torchvision's {len(names())} networks matches '{pattern}'.")
    families = [substitution]
    if csv:
        typer.echo(survey_csv(families), nl=False)
    else:
        typer.echo(survey_header(families))
    failed = []
    for surveyed in run(found, wanted):
        line = survey_csv(families, surveyed) if csv else survey_line(families, surveyed) + "\n"
        typer.echo(line, nl=False)
        if surveyed.refused is not None and not surveyed.expected:
            failed.append(surveyed.network)
    if failed:
        raise NetworkError(f"{len(failed)} of {len(found)} networks failed: {', '.join(failed)}.")
