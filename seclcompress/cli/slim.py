"""`seclcompress slim`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seclcompress.cli import options as o
from seclcompress.cli.drawing import Drawing
from seclcompress.cli.given import check_idle
from seclcompress.errors import UsageError
from seclcompress.settings.slimming import SlimOptions, Spread

_DEFAULTS = SlimOptions()


def slim(
    *,
    context: typer.Context,
    network: o.NetworkArgument,
    budget: o.BudgetOption,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="The folder to write.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Choose and report; write no network.")
    ] = False,
    spread: Annotated[
        Spread,
        typer.Option("--spread", help=SlimOptions.model_fields["spread"].description),
    ] = _DEFAULTS.spread,
    least: Annotated[
        float,
        typer.Option(
            "--least",
            min=0,
            max=1,
            metavar="SHARE",
            help=SlimOptions.model_fields["least"].description,
        ),
    ] = _DEFAULTS.least,
    weights: o.WeightsOption = None,
    weights_key: o.WeightsKeyOption = None,
    input_size: o.InputSizeOption = None,
    num_classes: o.NumClassesOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    seed: o.SeedOption = 0,
    overwrite: o.OverwriteOption = False,
    json: o.JsonOption = False,
) -> None:
    """Remove whole channels until a network meets a budget, those with the least weights first.

    What is left keeps its weights and runs anywhere as fast as its size says. It has to be trained again
    (distill, with the whole network as its teacher), and can then be converted as well.
    """
    if output_dir is None and not dry_run:
        raise UsageError(
            "Where to? Give a folder with --output-dir/-o, or only choose with --dry-run."
        )
    if dry_run:
        check_idle(context, "--dry-run", "no network is made", of=("output_dir", "overwrite"))
    size = o.parse_input_size(input_size)
    from rich.console import Console

    from seclcompress import workflows
    from seclcompress.report import slimming

    done = workflows.slim(
        network,
        budget,
        None if dry_run else output_dir,
        options=SlimOptions(spread=spread, least=least),
        weights=weights,
        weights_key=weights_key,
        input_size=size,
        num_classes=num_classes,
        factory=factory,
        download=download,
        overwrite=overwrite,
        seed=seed,
        observer=Drawing(),
    )
    if json:
        typer.echo(slimming.slim_record(done).to_json())
        return
    console = Console(highlight=False, emoji=False)
    console.print(slimming.slim_tables(done, console.width))
