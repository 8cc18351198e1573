"""`seclcompress evaluate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.console import err_console, loading
from seclcompress.cli.settings import make_settings, with_settings
from seclcompress.cli.streams import write_result
from seclcompress.settings.training import EVALUATION


@with_settings(only=EVALUATION)
def evaluate(
    given: dict[str, Any],
    network: o.NetworkArgument,
    data: t.DataOption,
    execution: Annotated[
        t.Execution, typer.Option("--execution", help="How structured layers run.")
    ] = t.Execution.auto,
    by_class: Annotated[
        bool,
        typer.Option(
            "--by-class", help="Also the accuracy of each class, and what it is taken for."
        ),
    ] = False,
    weights: o.WeightsOption = None,
    weights_key: o.WeightsKeyOption = None,
    num_classes: o.NumClassesOption = None,
    input_size: o.InputSizeOption = None,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    json: o.JsonOption = False,
) -> None:
    """Measure accuracy and loss on the test images."""
    size = o.parse_input_size(input_size)
    settings = make_settings(None, given)
    from rich.console import Console

    with loading():
        from seclcompress.cli.progress import DrawingImages
        from seclcompress.report.classes import class_accuracies, classes_table
        from seclcompress.report.records import EvaluateRecord
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
        by_class=by_class,
        observer=DrawingImages(err_console),
    )
    classes = None if found.answers is None else class_accuracies(found.answers)
    if json:
        record = EvaluateRecord(
            network=network,
            data=data,
            accuracy=found.accuracy,
            top5_accuracy=found.top5_accuracy,
            loss=found.loss,
            images=found.images,
            classes=classes,
        )
        write_result(record.to_json())
        return
    top5 = "" if found.top5_accuracy is None else f"top-5 {found.top5_accuracy:.2f} %, "
    typer.echo(
        f"{network} on {data}: top-1 {found.accuracy:.2f} %, {top5}"
        f"loss {found.loss:.4f} ({found.images:,} test images)"
    )
    if classes is not None:
        Console(highlight=False, emoji=False).print(classes_table(classes))
