"""`seclcompress search`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.console import loading
from seclcompress.cli.settings import (
    field_option,
    make_settings,
    with_parameters,
    with_settings,
)
from seclcompress.cli.streams import write_result
from seclcompress.errors import UsageError
from seclcompress.settings.sensitivity import Measure
from seclcompress.settings.tournament import CONTENDERS, Tournament

_DEFAULTS = Tournament()
_FIELDS = Tournament.model_fields


@with_parameters(
    "sensitivity",
    [field_option(Tournament, "sensitivity", "--sensitivity", checked=True)],
    lambda given: getattr(given.get("sensitivity"), "value", _DEFAULTS.sensitivity),
)
@with_settings()
def search(
    *,
    given: dict[str, Any],
    network: o.NetworkArgument,
    data: t.DataOption,
    output_dir: t.OutputDirOption,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="LIMITS", help=o.BUDGET_HELP),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            "--max-loss",
            metavar="POINTS",
            help="Instead of a budget: the smallest student that loses at most so many points of "
            "accuracy.",
        ),
    ] = None,
    families: Annotated[
        str,
        typer.Option("--families", metavar="NAMES", help=_FIELDS["families"].description),
    ] = ",".join(CONTENDERS),
    sizes: Annotated[
        int, typer.Option("--sizes", min=1, help=_FIELDS["sizes"].description)
    ] = _DEFAULTS.sizes,
    keep: Annotated[
        float, typer.Option("--keep", metavar="SHARE", help=_FIELDS["keep"].description)
    ] = _DEFAULTS.keep,
    pictures: Annotated[
        int, typer.Option("--pictures", min=2, help=_FIELDS["pictures"].description)
    ] = _DEFAULTS.pictures,
    sensitivity: Measure,
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
    """Try several kinds of students, and keep the best of a size, or the smallest that loses little.

    Each student is planned for the size, starts from the network's weights, is recovered, and is
    distilled in rounds; after each round the better half stays. They are compared on held-out images.
    The same command without --overwrite goes on after an interruption.
    """
    size = o.parse_input_size(input_size)
    if not 0 < keep < 1:
        raise UsageError(f"--keep {keep:g}: it takes a share between 0 and 1, as 0.5.")
    names = o.parse_names(families)
    tournament = Tournament(
        families=names, sizes=sizes, keep=keep, pictures=pictures, sensitivity=sensitivity
    )
    settings = make_settings(recipe, given)
    from rich.console import Console

    with loading():
        from seclcompress.report.records import SearchRecord
        from seclcompress.report.searching import search_table, search_words
        from seclcompress.workflows.searching import search as run

    with t.observing() as observer:
        found = run(
            network,
            data=data,
            output_dir=output_dir,
            budget=budget,
            max_loss=max_loss,
            tournament=tournament,
            settings=settings,
            weights=weights,
            weights_key=weights_key,
            num_classes=num_classes,
            input_size=size,
            data_dir=data_dir,
            factory=factory,
            download=download,
            overwrite=overwrite,
            time_limit=time_limit,
            stopping=t.stopping_softly,
            observer=observer,
        )
    if json:
        record = SearchRecord(
            output_dir=str(found.folder),
            network=found.label,
            parameters=found.parameters,
            teacher_accuracy=found.teacher_accuracy,
            best=found.best,
            contenders=list(found.contenders),
        )
        write_result(record.to_json())
        return
    console = Console(highlight=False, emoji=False)
    console.print(search_table(found.contenders, console.width))
    console.print(
        search_words(found.best, found.label, found.parameters, found.teacher_accuracy),
        soft_wrap=False,
    )
    console.print(f"Wrote {found.folder}.", soft_wrap=True)
