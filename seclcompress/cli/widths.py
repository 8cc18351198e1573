"""`seclcompress widths`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.console import err_console, loading
from seclcompress.cli.given import check_needs
from seclcompress.cli.settings import make_settings, with_settings
from seclcompress.cli.streams import write_result
from seclcompress.errors import UsageError
from seclcompress.settings.training import EVALUATION
from seclcompress.widths.findings import CONJECTURE, FINDINGS, INSTEAD

#: Labels are not used, so their order does not matter.
_SETTINGS = (*(name for name in EVALUATION if name != "classes_by_order"), "seed")


Command = TypeVar("Command", bound=Callable[..., None])


def _saying_what_was_found(command: Command) -> Command:
    """Adds to a command's help what was found about each statistic."""
    found = [f"{one.title}: {one.found}" for one in FINDINGS.values()]
    about = inspect.cleandoc(command.__doc__ or "")
    command.__doc__ = "\n\n".join([about, *found, CONJECTURE, INSTEAD])
    return command


@with_settings(only=_SETTINGS)
@_saying_what_was_found
def widths(
    given: dict[str, Any],
    *,
    context: typer.Context,
    network: o.NetworkArgument,
    data: t.DataOption,
    images: Annotated[
        int,
        typer.Option("--images", min=2, help="Training images to look at; no label is used."),
    ] = 1000,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers",
            metavar="PATTERN",
            help="These hidden layers only (*, ?, […]), or those of a module: layer4. Repeatable.",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="FILE",
            help="Draw variances, mixtures, PCA and singular values of each layer, as .png.",
        ),
    ] = None,
    weights: o.WeightsOption = None,
    weights_key: o.WeightsKeyOption = None,
    num_classes: o.NumClassesOption = None,
    input_size: o.InputSizeOption = None,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a picture that is there already.")
    ] = False,
    json: o.JsonOption = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Every figure as CSV, one line per layer.")
    ] = False,
) -> None:
    """Measure what was hoped to tell the right width of each layer. It does not; this is what was found.

    Statistics of the activations on some training images, and of the weights, for every layer that makes
    hidden channels. A research journal tried them on networks of many widths:
    """
    if json and csv:
        raise UsageError("--json and --csv exclude each other.")
    if picture is None:
        check_needs(context, "--picture", of=("overwrite",))
    size = o.parse_input_size(input_size)
    settings = make_settings(None, given)
    from rich.console import Console

    with loading():
        from seclcompress.cli.progress import DrawingImages
        from seclcompress.report import widths as reports
        from seclcompress.workflows.measuring_widths import widths as run

    found = run(
        network,
        data=data,
        images=images,
        layers=layers or (),
        picture=picture,
        settings=settings,
        weights=weights,
        weights_key=weights_key,
        num_classes=num_classes,
        input_size=size,
        data_dir=data_dir,
        factory=factory,
        download=download,
        overwrite=overwrite,
        observer=DrawingImages(err_console),
    )
    if json:
        write_result(reports.widths_record(found).to_json())
        return
    if csv:
        write_result(reports.widths_csv(found), end="")
        return
    console = Console(highlight=False, emoji=False)
    console.print(reports.widths_table(found, console.width))
