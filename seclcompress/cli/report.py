"""`seclcompress report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.console import err_console, loading
from seclcompress.cli.given import check_needs
from seclcompress.cli.settings import make_settings, with_settings
from seclcompress.cli.streams import write_result
from seclcompress.settings.training import EVALUATION
from seclcompress.wording import printable


@with_settings(only=EVALUATION)
def report(
    context: typer.Context,
    given: dict[str, Any],
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER", help="Saved folders, or hf://OWNER/NAME; several are compared."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The page to write, as report.html."),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME",
            help="Evaluate each network on these data, for the accuracy by class and the confusions. "
            "Names as for evaluate.",
        ),
    ] = None,
    bench: Annotated[
        bool, typer.Option("--bench", help="Time each network and its variants on this machine.")
    ] = False,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    json: o.JsonOption = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a page that is there already.")
    ] = False,
) -> None:
    """Write one self-contained page about saved folders, to show to somebody else.

    It has the figures before and after, the layers as a picture with reasons, the curves of training,
    sizes, settings, versions, and the commands that make the folder again. Settings of images, --device,
    --data-dir and --download need --data.
    """
    if data is None:
        check_needs(context, "--data", but=("output", "bench", "factory", "overwrite", "json"))
    settings = make_settings(None, given)
    with loading():
        from seclcompress.cli.progress import DrawingImages
        from seclcompress.workflows.reporting import report as run

    found = run(
        folders,
        output,
        data=data,
        settings=settings,
        bench=bench,
        data_dir=data_dir,
        factory=factory,
        download=download,
        overwrite=overwrite,
        observer=DrawingImages(err_console),
    )
    if json:
        from seclcompress.report.records import ReportRecord

        said = dict(zip(folders, found.headlines, strict=True))
        write_result(ReportRecord(output=str(found.output), headlines=said).to_json())
        return
    typer.echo(printable(f"Wrote {found.output}."))
    for folder, sentence in zip(folders, found.headlines, strict=True):
        typer.echo(sentence if len(folders) == 1 else printable(f"{folder}: {sentence}"))
