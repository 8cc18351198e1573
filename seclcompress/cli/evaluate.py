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
    num_classes: o.NumClassesOption = None,
    input_size: o.InputSizeOption = None,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    json: Annotated[bool, typer.Option("--json", help="The figures as JSON.")] = False,
) -> None:
    """Accuracy and loss on the test images."""
    size = o.parse_input_size(input_size)
    settings = make_settings(None, given)
    import dataclasses
    from json import dumps

    from seclcompress.cli.progress import counting
    from seclcompress.data import check_classes
    from seclcompress.networks import check_image_classification
    from seclcompress.resolve import locate
    from seclcompress.substitutions import set_execution
    from seclcompress.trace import trace_network
    from seclcompress.train import evaluate as run

    t.check_device(settings.device)
    source = locate(
        network,
        weights=weights,
        num_classes=num_classes,
        input_size=size,
        factory_name=factory,
        download=download,
    )
    check_image_classification(source.network, "evaluate")
    images = t.open_data(
        data,
        source.input_size,
        source.preprocessing,
        settings,
        data_dir=data_dir,
        download=download,
    )
    built, untrained = source.load()
    o.say_untrained(untrained)
    check_classes(images, trace_network(built, source.input_size).outputs, network)
    set_execution(built, execution.value)
    with counting(err_console, f"Evaluating on {data}", len(images.test)) as on_batch:
        found = run(
            built.to(settings.device),
            images,
            batch_size=settings.batch_size,
            device=settings.device,
            workers=settings.workers,
            on_batch=on_batch,
        )
    if json:
        typer.echo(dumps({"network": network, "data": data, **dataclasses.asdict(found)}))
        return
    typer.echo(
        f"{network} on {data}: top-1 {found.accuracy:.2f} %, top-5 {found.top5_accuracy:.2f} %, "
        f"loss {found.loss:.4f} ({found.images:,} test images)"
    )
