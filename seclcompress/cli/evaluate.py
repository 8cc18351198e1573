"""`seclcompress evaluate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.console import err_console
from seclcompress.cli.settings import make_settings, with_settings


@with_settings(only=("batch_size", "device", "workers", "cache_images", "bad_images"))
def evaluate(
    given: dict[str, Any],
    network: o.NetworkArgument,
    data: t.DataOption,
    execution: Annotated[
        t.Execution, typer.Option("--execution", help="How structured layers run.")
    ] = t.Execution.auto,
    weights: o.WeightsOption = None,
    weights_key: o.WeightsKeyOption = None,
    num_classes: o.NumClassesOption = None,
    input_size: o.InputSizeOption = None,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    json: Annotated[bool, typer.Option("--json", help="The figures as JSON.")] = False,
) -> None:
    """Measure accuracy and loss on the test images."""
    size = o.parse_input_size(input_size)
    settings = make_settings(None, given)
    import dataclasses
    from json import dumps

    from seclcompress.cli.progress import DrawingImages
    from seclcompress.workflows.evaluating import evaluate as run

    found = run(
        network,
        data=data,
        settings=settings,
        execution=execution.value,
        weights=weights,
        weights_key=weights_key,
        num_classes=num_classes,
        input_size=size,
        data_dir=data_dir,
        factory=factory,
        download=download,
        observer=DrawingImages(err_console),
    )
    if json:
        typer.echo(dumps({"network": network, "data": data, **dataclasses.asdict(found)}))
        return
    typer.echo(
        f"{network} on {data}: top-1 {found.accuracy:.2f} %, top-5 {found.top5_accuracy:.2f} %, "
        f"loss {found.loss:.4f} ({found.images:,} test images)"
    )
