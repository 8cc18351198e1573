"""`seclcompress plan`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.console import err_console, loading
from seclcompress.cli.given import check_idle, check_needs
from seclcompress.cli.planning import Asked, with_planning
from seclcompress.cli.settings import (
    field_option,
    flag_of,
    make_settings,
    with_parameters,
    with_settings,
)
from seclcompress.cli.streams import write_result
from seclcompress.errors import UsageError
from seclcompress.settings.budget import FAMILIES, Quantity
from seclcompress.settings.planning import LEFT_ALONE, PlanOptions
from seclcompress.settings.sensitivity import SensitivityOptions
from seclcompress.settings.training import EVALUATION

#: What the command chooses itself.
_CHOSEN = [name for name in PlanOptions.model_fields if name not in LEFT_ALONE]

#: The settings of images that are shown; how many at once is no choice, and changes nothing.
_OF_IMAGES = tuple(name for name in (*EVALUATION, "seed") if name != "batch_size")


class Against(str, Enum):
    """`--against`."""

    parameters = "parameters"
    mult_adds = "mult-adds"
    ms = "ms"


_QUANTITIES: dict[Against, Quantity] = {
    Against.parameters: "parameters",
    Against.mult_adds: "mult_adds",
    Against.ms: "nanoseconds",
}


def _read(given: dict[str, Any]) -> SensitivityOptions:
    return SensitivityOptions(**{name: getattr(v, "value", v) for name, v in given.items()})


@with_planning(leave_out=(*_CHOSEN, "plan"))
@with_parameters(
    "measured",
    [
        field_option(SensitivityOptions, name, flag_of(name), checked=True)
        for name in SensitivityOptions.model_fields
    ],
    _read,
)
@with_settings(only=_OF_IMAGES)
def plan(
    *,
    context: typer.Context,
    given: dict[str, Any],
    network: o.NetworkArgument,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="LIMITS", help=o.TIMED_BUDGET_HELP),
    ] = None,
    pareto: Annotated[
        Path | None,
        typer.Option(
            "--pareto",
            metavar="FILE",
            help="Instead of one budget: the whole curve, as .csv, .png or .html.",
        ),
    ] = None,
    against: Annotated[
        Against,
        typer.Option("--against", help="What the curve's plans have less and less of."),
    ] = Against.parameters,
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime",
            metavar="NAME",
            help="With ms in --budget or --against: in this runtime, as onnxruntime.  [default: torch]",
        ),
    ] = None,
    families: Annotated[
        str,
        typer.Option(
            "--families",
            metavar="NAMES",
            help="The families among which each layer's is chosen, with commas; a layer may also stay.",
        ),
    ] = ",".join(FAMILIES),
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the plan as JSON, for convert --plan."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME",
            help="Measure what layers lose on training images of this data set.",
        ),
    ] = None,
    data_dir: t.DataDirOption = None,
    measured: SensitivityOptions,
    weights: o.WeightsOption = None,
    weights_key: o.WeightsKeyOption = None,
    input_size: o.InputSizeOption = None,
    num_classes: o.NumClassesOption = None,
    asked: Asked,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a plan that is there already.")
    ] = False,
    json: o.JsonOption = False,
) -> None:
    """Choose for each layer a family and its size, so that the network meets a budget and loses least.

    With trained weights (of a folder, or by --weights) a layer's loss is what its fitted replacement
    misses of them, or with --data of the layer's outputs on images; without, it is the share of its
    parameters that is saved. None knows how well the network trains afterwards. With --pareto the same
    is done for budgets from the smallest on.
    """
    if (budget is None) == (pareto is None):
        raise UsageError(
            "Say what is planned: one budget (--budget parameters=100k), or the whole curve (--pareto "
            "curve.html). One of the two."
        )
    if pareto is not None:
        check_idle(context, "--pareto", "it writes no plan", of=("output",))
    else:
        check_needs(context, "--pareto", of=("against",))
    if output is None and pareto is None:
        check_needs(context, "--output", of=("overwrite",))
    if data is None:
        check_needs(context, "--data", of=("data_dir", *_OF_IMAGES))
    settings = make_settings(None, given)
    names = o.parse_names(families)
    size = o.parse_input_size(input_size)
    from rich.console import Console

    with loading():
        from seclcompress.cli.progress import DrawingImages
        from seclcompress.report import budgets, curve
        from seclcompress.workflows.budgeting import plan as run
        from seclcompress.workflows.curves import pareto as draw

    options: dict[str, Any] = {
        "families": names,
        "options": asked.options,
        "data": data,
        "sensitivity": measured,
        "settings": settings,
        "data_dir": data_dir,
        "weights": weights,
        "weights_key": weights_key,
        "input_size": size,
        "num_classes": num_classes,
        "factory": factory,
        "download": download,
        "overwrite": overwrite,
        "observer": DrawingImages(err_console),
    }
    if budget is None:
        drawn = draw(network, pareto, quantity=_QUANTITIES[against], runtime=runtime, **options)
        if json:
            write_result(budgets.curve_record(drawn).to_json())
            return
        console = Console(highlight=False, emoji=False)
        console.print(curve.curve_table(drawn, console.width))
        console.print(curve.curve_words(drawn))
        return
    found = run(network, budget, output, runtime=runtime, **options)
    if json:
        write_result(budgets.plan_record(found).to_json())
        return
    console = Console(highlight=False, emoji=False)
    console.print(budgets.plan_tables(found, console.width))
