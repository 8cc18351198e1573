"""`seclcompress export`."""

from __future__ import annotations

from enum import Enum
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

#: Files are made and run on the CPU.
_SETTINGS = tuple(name for name in EVALUATION if name != "device")
#: The options that do something without `--data`.
_WITHOUT_DATA = (
    *("output", "format", "weights", "dtype", "execution", "tolerance", "overwrite", "json"),
    *("weights_file", "weights_key", "num_classes", "input_size", "factory"),
)


class Weights(str, Enum):
    """`--weights`."""

    dense = "dense"
    factors = "factors"


class Dtype(str, Enum):
    """`--dtype`."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


class Execution(str, Enum):
    """`--execution`."""

    dense = "dense"
    fast = "fast"
    auto = "auto"


@with_settings(only=_SETTINGS)
def export(
    context: typer.Context,
    given: dict[str, Any],
    network: o.NetworkArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")
    ],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="onnx, torch (.pt2), openvino (.xml and .bin), executorch, litert, weights "
            "(safetensors).  [default: onnx]",
        ),
    ] = None,
    weights: Annotated[
        Weights,
        typer.Option(
            "--weights",
            help="How weights are written: multiplied out, or as factors that the runtime multiplies "
            "out at load. (A file of weights, --weights elsewhere, is --weights-file here.)",
        ),
    ] = Weights.dense,
    dtype: Annotated[
        Dtype, typer.Option("--dtype", help="How numbers are stored; dense int8 needs --data.")
    ] = Dtype.float32,
    execution: Annotated[
        Execution,
        typer.Option(
            "--execution",
            help="Layers multiplied out, by a fast transform, or as planned (onnx; needs a library of "
            "ours).",
        ),
    ] = Execution.dense,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="NAME", help="Compare on these images, too, and measure the accuracy."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            min=0,
            help="The largest difference of an output that passes, of the largest output.  [default: "
            "0.001, float16 0.05, int8 0.5]",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there already.")
    ] = False,
    weights_file: Annotated[
        str | None,
        typer.Option(
            "--weights-file",
            metavar="FILE|NAME",
            help="The network's weights: a file, or torchvision's name (IMAGENET1K_V2, DEFAULT).",
        ),
    ] = None,
    weights_key: Annotated[
        str | None,
        typer.Option("--weights-key", metavar="KEY", help="Where in that file they stand."),
    ] = None,
    num_classes: o.NumClassesOption = None,
    input_size: o.InputSizeOption = None,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    json: o.JsonOption = False,
) -> None:
    """Write a network to a file for another runtime; the file is run and compared first.

    Settings of images, --data-dir and --batch-size need --data.
    """
    if weights_file is None:
        check_needs(context, "--weights-file", of=("weights_key",))
    if data is None:
        check_needs(context, "--data", but=(*_WITHOUT_DATA, "download"))
        if weights_file is None:
            check_needs(context, "--data or --weights-file", of=("download",))
    size = o.parse_input_size(input_size)
    settings = make_settings(None, given)
    with loading():
        from seclcompress.cli.progress import DrawingImages
        from seclcompress.report.export import export_lines, export_record
        from seclcompress.workflows.exporting import export as run

    found = run(
        network,
        output,
        format=format,
        weights=weights.value,
        dtype=dtype.value,
        execution=execution.value,
        data=data,
        settings=settings,
        data_dir=data_dir,
        weights_file=weights_file,
        weights_key=weights_key,
        num_classes=num_classes,
        input_size=size,
        factory=factory,
        download=download,
        tolerance=tolerance,
        overwrite=overwrite,
        observer=DrawingImages(err_console),
    )
    write_result(export_record(found).to_json() if json else export_lines(found))
