"""`seclcompress slim`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.console import err_console, loading
from seclcompress.cli.given import check_idle, check_needs
from seclcompress.cli.settings import make_settings, with_settings
from seclcompress.cli.streams import write_result
from seclcompress.errors import UsageError
from seclcompress.settings.slimming import SlimOptions, Spread
from seclcompress.settings.training import EVALUATION

_DEFAULTS = SlimOptions()
#: The options that do something without `--data`.
_WITHOUT_DATA = (
    *("network", "budget", "output_dir", "dry_run", "spread", "least", "weights", "weights_key"),
    *("input_size", "num_classes", "factory", "download", "seed", "overwrite", "json"),
)


@with_settings(only=EVALUATION)
def slim(
    context: typer.Context,
    given: dict[str, Any],
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
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME",
            help="Measure the accuracy before and after on this data set, and estimate batch norm's "
            "statistics anew from its training images.",
        ),
    ] = None,
    weights: o.WeightsOption = None,
    weights_key: o.WeightsKeyOption = None,
    input_size: o.InputSizeOption = None,
    num_classes: o.NumClassesOption = None,
    data_dir: t.DataDirOption = None,
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
    if data is None:
        check_needs(context, "--data", but=_WITHOUT_DATA)
    settings = make_settings(None, given)
    size = o.parse_input_size(input_size)
    from rich.console import Console

    with loading():
        from seclcompress.cli.progress import DrawingImages
        from seclcompress.report import slimming
        from seclcompress.workflows.slimming import slim as run

    done = run(
        network,
        budget,
        None if dry_run else output_dir,
        options=SlimOptions(spread=spread, least=least),
        data=data,
        settings=settings,
        data_dir=data_dir,
        weights=weights,
        weights_key=weights_key,
        input_size=size,
        num_classes=num_classes,
        factory=factory,
        download=download,
        overwrite=overwrite,
        seed=seed,
        observer=DrawingImages(err_console),
    )
    if json:
        write_result(slimming.slim_record(done).to_json())
        return
    console = Console(highlight=False, emoji=False)
    console.print(slimming.slim_tables(done, console.width))
