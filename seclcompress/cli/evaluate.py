"""`seclcompress evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.app import err_console


def evaluate(
    network: o.NetworkArgument,
    data: t.DataOption,
    execution: Annotated[
        t.Execution, typer.Option("--execution", help="How structured layers run.")
    ] = t.Execution.auto,
    weights: o.WeightsOption = None,
    num_classes: o.NumClassesOption = None,
    input_size: o.InputSizeOption = None,
    batch_size: t.BatchSizeOption = 128,
    device: t.DeviceOption = "cpu",
    workers: t.WorkersOption = 0,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    json: Annotated[bool, typer.Option("--json", help="The figures as JSON.")] = False,
) -> None:
    """Accuracy and loss on the test images."""
    size = o.parse_input_size(input_size)
    import dataclasses
    from json import dumps

    from seclcompress.data import DEFAULT_ROOT, check_classes, load_data
    from seclcompress.resolve import locate
    from seclcompress.substitutions import set_execution
    from seclcompress.trace import trace_network
    from seclcompress.train import evaluate as run

    t.check_device(device)
    source = locate(
        network,
        weights=weights,
        num_classes=num_classes,
        input_size=size,
        factory_name=factory,
        download=download,
    )
    images = load_data(data, source.input_size, root=data_dir or DEFAULT_ROOT, download=download)
    built, fresh = source.load()
    o.say_fresh(fresh)
    check_classes(images, trace_network(built, source.input_size).outputs, network)
    set_execution(built, execution.value)
    with err_console.status(f"Evaluating on the test images of {data} …"):
        found = run(built.to(device), images, batch_size=batch_size, device=device, workers=workers)
    if json:
        typer.echo(dumps({"network": network, "data": data, **dataclasses.asdict(found)}))
        return
    typer.echo(
        f"{network} on {data}: top-1 {found.accuracy:.2f} %, top-5 {found.top5_accuracy:.2f} %, "
        f"loss {found.loss:.4f} ({found.images:,} test images)"
    )
