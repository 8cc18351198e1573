"""`seclcompress train`."""

from __future__ import annotations

from typing import Any

import typer

from seclcompress.cli import finding as f
from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.console import loading
from seclcompress.cli.settings import make_settings, with_settings
from seclcompress.settings.training import DISTILLATION


@with_settings(leave_out=DISTILLATION)
def train(
    context: typer.Context,
    given: dict[str, Any],
    network: o.NetworkArgument,
    data: t.DataOption,
    output_dir: t.RunOutputDirOption = None,
    find_lr: f.FindLrOption = False,
    plot: f.PlotOption = None,
    recipe: t.RecipeOption = None,
    weights: o.WeightsOption = None,
    weights_key: o.WeightsKeyOption = None,
    num_classes: o.NumClassesOption = None,
    input_size: o.InputSizeOption = None,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    resume: t.ResumeOption = False,
    overwrite: o.OverwriteOption = False,
    time_limit: t.TimeLimitOption = None,
    json: o.JsonOption = False,
) -> None:
    """Train a network without a teacher, to obtain a teacher or to compare with distillation.

    The number of classes and the input size come from the data unless they are given.
    """
    size = o.parse_input_size(input_size)
    folder = f.checked_output(context, output_dir, find_lr=find_lr)
    t.check_resume(resume=resume, overwrite=overwrite)
    settings = make_settings(recipe, given)
    with loading():
        from seclcompress.workflows.rate_finding import find_lr as look
        from seclcompress.workflows.training import train as run

    options: dict[str, Any] = {
        "data": data,
        "settings": settings,
        "weights": weights,
        "weights_key": weights_key,
        "num_classes": num_classes,
        "input_size": size,
        "data_dir": data_dir,
        "factory": factory,
        "download": download,
        "overwrite": overwrite,
    }
    with t.observing() as observer:
        if folder is None:
            found = look(network, picture=plot, observer=observer, **options)
            f.show_rates(found, "train", context, json=json)
            return
        result = run(
            network,
            output_dir=folder,
            recipe=recipe,
            resume=resume,
            time_limit=time_limit,
            stopping=t.stopping_softly,
            observer=observer,
            **options,
        )
    t.show_result(result, "train", json=json)
