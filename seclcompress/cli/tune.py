"""`seclcompress tune`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.console import err_console, loading
from seclcompress.cli.given import check_needs
from seclcompress.cli.settings import make_settings, with_settings
from seclcompress.cli.streams import write_result
from seclcompress.settings.training import DISTILLATION


@with_settings()
def tune(
    context: typer.Context,
    given: dict[str, Any],
    network: o.NetworkArgument,
    data: t.DataOption,
    output_dir: t.OutputDirOption,
    search: Annotated[
        list[str],
        typer.Option(
            "--search",
            metavar="NAME=VALUES",
            help="A setting to try, over a range (lr=0.01..0.4:log, cutout=0..16:4) or over values "
            "(batch_size=64,128). Repeatable.",
        ),
    ],
    trials: Annotated[
        int,
        typer.Option("--trials", min=1, help="Trials of the whole study, earlier ones included."),
    ] = 30,
    least_epochs: Annotated[
        int,
        typer.Option(
            "--least-epochs", min=1, help="Epochs after which a trial may be stopped first."
        ),
    ] = 1,
    reduction_factor: Annotated[
        int,
        typer.Option(
            "--reduction-factor",
            min=2,
            help="Of the trials that come to such an epoch, one in this many goes on.",
        ),
    ] = 3,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="The network to learn from: a name or a folder."),
    ] = None,
    teacher_weights: t.TeacherWeightsOption = None,
    teacher_weights_key: t.TeacherWeightsKeyOption = None,
    teacher_input_size: t.TeacherInputSizeOption = None,
    untrained_teacher: t.UntrainedTeacherOption = False,
    recipe: t.RecipeOption = None,
    weights: o.WeightsOption = None,
    weights_key: o.WeightsKeyOption = None,
    num_classes: o.NumClassesOption = None,
    input_size: o.InputSizeOption = None,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    overwrite: o.OverwriteOption = False,
    time_limit: t.TimeLimitOption = None,
    json: o.JsonOption = False,
) -> None:
    """Try settings of training by Hyperband, and write the best ones as a recipe.

    Each trial is a run of `train`, or with --teacher of `distill`. Trials are compared on images that
    are held out of the training images (--validation, 0.1 by default). The same command
    without --overwrite goes on with the study, and may run in several terminals at once.
    """
    if teacher is None:
        check_needs(context, "--teacher", of=(*DISTILLATION, "untrained_teacher"))
    size = o.parse_input_size(input_size)
    teacher_size = o.parse_input_size(teacher_input_size, "--teacher-input-size")
    settings = make_settings(recipe, given)
    from rich.console import Console

    with loading():
        from seclcompress.report.tuning import trials_table
        from seclcompress.workflows.tuning import RECIPE
        from seclcompress.workflows.tuning import tune as run

    with t.observing() as observer:
        found = run(
            network,
            data=data,
            output_dir=output_dir,
            search=search,
            trials=trials,
            teacher=teacher,
            settings=settings,
            least_epochs=least_epochs,
            reduction_factor=reduction_factor,
            weights=weights,
            weights_key=weights_key,
            teacher_weights=teacher_weights,
            teacher_weights_key=teacher_weights_key,
            num_classes=num_classes,
            input_size=size,
            teacher_input_size=teacher_size,
            untrained_teacher=untrained_teacher,
            data_dir=data_dir,
            factory=factory,
            download=download,
            overwrite=overwrite,
            time_limit=time_limit,
            stopping=t.stopping_softly,
            observer=observer,
        )
    best = found.best
    if json:
        from seclcompress.report.records import TuneRecord

        record = TuneRecord(
            output_dir=str(found.folder),
            recipe=None if best is None else str(found.folder / RECIPE),
            best=None if best is None else best.number,
            trials=found.trials,
            importance=dict(found.importance),
        )
        write_result(record.to_json())
    else:
        console = Console(highlight=False, emoji=False)
        console.print(trials_table(found.trials, console.width))
    if best is None:
        err_console.print(f"Wrote {found.folder}: no trial is finished, so there is no recipe.")
        return
    tested = (
        "" if best.test_accuracy is None else f", {best.test_accuracy:.2f} % of the test images"
    )
    err_console.print(
        f"Wrote {found.folder / RECIPE}: trial {best.number}, {best.accuracy:.2f} % of the held-out "
        f"images right{tested}."
    )
