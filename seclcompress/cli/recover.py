"""`seclcompress recover`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.console import err_console, loading
from seclcompress.cli.settings import (
    field_option,
    flag_of,
    make_settings,
    switched,
    with_parameters,
    with_settings,
)
from seclcompress.cli.streams import write_result
from seclcompress.errors import UsageError
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.training import EVALUATION

_FLAGS = {"kept": switched("--kept")}


def _read(given: dict[str, Any]) -> RecoverySettings:
    # Typer has checked choices and minima but for `ridge`, whose minimum is not a value of its own.
    if given.get("ridge", 1) <= 0:
        raise UsageError(f"--ridge: it takes a number above 0, not {given['ridge']:g}.")
    return RecoverySettings.model_validate(
        {name: getattr(value, "value", value) for name, value in given.items()}
    )


@with_parameters(
    "asked",
    [
        field_option(
            RecoverySettings,
            name,
            _FLAGS.get(name, flag_of(name)),
            checked=True,
            panel="Settings: recovery",
        )
        for name in RecoverySettings.model_fields
    ],
    _read,
)
@with_settings(only=(*EVALUATION, "seed"))
def recover(
    given: dict[str, Any],
    asked: RecoverySettings,
    student: Annotated[
        str, typer.Argument(metavar="STUDENT", help="A folder that `convert` wrote.")
    ],
    teacher: Annotated[
        str, typer.Option("--teacher", help="The network that the student was converted from.")
    ],
    data: t.DataOption,
    output_dir: t.OutputDirOption,
    teacher_weights: t.TeacherWeightsOption = None,
    teacher_weights_key: t.TeacherWeightsKeyOption = None,
    input_size: o.InputSizeOption = None,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    overwrite: o.OverwriteOption = False,
    json: o.JsonOption = False,
) -> None:
    """Give a converted network its teacher's accuracy back, as far as a few pictures can.

    From front to back, each rewritten layer learns to give the outputs of the teacher's layer; no
    labels are needed. It takes minutes, and `distill` goes on from the result.
    """
    size = o.parse_input_size(input_size)
    training = make_settings(None, given)
    from rich.console import Console

    with loading():
        from seclcompress.cli.progress import DrawingImages
        from seclcompress.report.records import RecoverRecord
        from seclcompress.report.recovery import recovery_table
        from seclcompress.workflows.recovering import recover as run

    found = run(
        student,
        teacher=teacher,
        data=data,
        output_dir=output_dir,
        settings=asked,
        training=training,
        teacher_weights=teacher_weights,
        teacher_weights_key=teacher_weights_key,
        input_size=size,
        data_dir=data_dir,
        factory=factory,
        download=download,
        overwrite=overwrite,
        observer=DrawingImages(err_console),
    )
    if json:
        record = RecoverRecord(
            output_dir=str(found.folder),
            pictures=found.pictures,
            layers=found.layers,
            left_out=found.left_out,
            metrics=found.metrics,
        )
        write_result(record.to_json())
        return
    console = Console(highlight=False, emoji=False)
    console.print(recovery_table(found.layers, console.width))
    typer.echo(
        f"Wrote {found.folder}: {found.metrics['accuracy']:.2f} % of the test images right. Before: "
        f"{found.metrics['start_accuracy']:.2f} %, teacher {found.metrics['teacher_accuracy']:.2f} %."
    )
