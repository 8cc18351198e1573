"""`seclcompress count`."""

from __future__ import annotations

from typing import Annotated

import typer

from seclcompress.cli import options as o
from seclcompress.cli.console import loading
from seclcompress.cli.drawing import Drawing
from seclcompress.cli.planning import Asked, with_planning
from seclcompress.cli.streams import write_result
from seclcompress.errors import UsageError
from seclcompress.settings import Convention


@with_planning()
def count(
    *,
    network: o.NetworkArgument,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="Show one line per layer as well.")
    ] = False,
    json: o.JsonOption = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Every figure as CSV, one line per layer.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Build the networks and count them with fvcore as well."),
    ] = False,
    convention: Annotated[
        Convention,
        typer.Option(
            help="What counts as a Mult-Add: macs, multiply-adds alone; or log, as the SECL authors' "
            "research log counts (docs/reference_counts.md)."
        ),
    ] = "macs",
    input_size: o.InputSizeOption = None,
    num_classes: o.NumClassesOption = None,
    asked: Asked,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
) -> None:
    """Count parameters and Mult-Adds before and after a rewrite. Needs no data and no weights.

    For a converted folder, the figures are those of its plan. With planning options, or for any other
    network, they say what a conversion would save.
    """
    if json and csv:
        raise UsageError("--json and --csv exclude each other.")
    size = o.parse_input_size(input_size)
    from rich.console import Console

    with loading():
        from seclcompress.report import counts
        from seclcompress.workflows.counting import count as run

    drawing = Drawing()
    found = run(
        network,
        options=asked.options,
        plan=asked.plan,
        input_size=size,
        num_classes=num_classes,
        factory=factory,
        download=download,
        verify=verify,
        convention=convention,
        observer=drawing,
    )
    for column, mult_adds in found.verified.items():
        drawing.message(f"fvcore agrees on '{column}': {mult_adds:,} Mult-Adds.")
    figures = (network, found.count, found.plan, found.accuracies)
    if json:
        write_result(counts.count_record(*figures, found.dense_parameters).to_json())
        return
    if csv:
        write_result(counts.count_csv(found.count), end="")
        return
    console = Console(highlight=False, emoji=False)
    if per_layer:
        console.print(counts.layers_table(found.count, console.width))
        console.print()
    console.print(counts.count_table(*figures, console.width, found.dense_parameters))
