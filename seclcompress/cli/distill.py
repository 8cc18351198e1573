"""`seclcompress distill`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from seclcompress.cli import finding as f
from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.console import loading
from seclcompress.cli.settings import make_settings, with_settings
from seclcompress.errors import UsageError
from seclcompress.settings.recovery import RecoverySettings


@with_settings()
def distill(
    context: typer.Context,
    given: dict[str, Any],
    student: Annotated[
        str, typer.Argument(metavar="STUDENT", help="A folder that `convert` wrote.")
    ],
    teacher: Annotated[
        str, typer.Option("--teacher", help="The network to learn from: a name or a folder.")
    ],
    data: t.DataOption,
    output_dir: t.RunOutputDirOption = None,
    find_lr: f.FindLrOption = False,
    plot: f.PlotOption = None,
    recover: Annotated[
        bool,
        typer.Option(
            "--recover",
            help="First let the new layers take over the teacher's outputs, as `recover` does.",
        ),
    ] = False,
    pictures: Annotated[
        int | None,
        typer.Option(
            "--pictures",
            min=2,
            help="Training images that --recover learns from.  [default: 500]",
        ),
    ] = None,
    teacher_weights: t.TeacherWeightsOption = None,
    teacher_weights_key: t.TeacherWeightsKeyOption = None,
    input_size: o.InputSizeOption = None,
    teacher_input_size: t.TeacherInputSizeOption = None,
    untrained_teacher: t.UntrainedTeacherOption = False,
    recipe: t.RecipeOption = None,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    resume: t.ResumeOption = False,
    overwrite: o.OverwriteOption = False,
    time_limit: t.TimeLimitOption = None,
    json: o.JsonOption = False,
) -> None:
    """Train a converted network from its original: attention transfer, knowledge distillation.

    The saved network has the last epoch's weights, or with --patience the best epoch's. The best
    epoch's weights are saved beside it in best.safetensors; that epoch is chosen on the images that
    --validation holds out, or else on the test images, so that its accuracy is optimistic.
    """
    size = o.parse_input_size(input_size)
    teacher_size = o.parse_input_size(teacher_input_size, "--teacher-input-size")
    folder = f.checked_output(context, output_dir, find_lr=find_lr)
    t.check_resume(resume=resume, overwrite=overwrite)
    if pictures is not None and not recover:
        raise UsageError("--pictures is for --recover: say both, or neither.")
    recovery = RecoverySettings.model_validate({} if pictures is None else {"pictures": pictures})
    settings = make_settings(recipe, given)
    with loading():
        from seclcompress.workflows.rate_finding import find_lr as look
        from seclcompress.workflows.training import distill as run

    options: dict[str, Any] = {
        "teacher": teacher,
        "data": data,
        "settings": settings,
        "recovery": recovery if recover else None,
        "teacher_weights": teacher_weights,
        "teacher_weights_key": teacher_weights_key,
        "input_size": size,
        "teacher_input_size": teacher_size,
        "data_dir": data_dir,
        "factory": factory,
        "download": download,
        "overwrite": overwrite,
    }
    with t.observing() as observer:
        if folder is None:
            found = look(student, picture=plot, observer=observer, **options)
            f.show_rates(found, "distill", context, json=json)
            return
        result = run(
            student,
            output_dir=folder,
            untrained_teacher=untrained_teacher,
            recipe=recipe,
            resume=resume,
            time_limit=time_limit,
            stopping=t.stopping_softly,
            observer=observer,
            **options,
        )
    t.show_result(result, "distill", json=json)
