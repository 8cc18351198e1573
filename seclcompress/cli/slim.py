"""`seclcompress slim`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from seclcompress.cli import options as o
from seclcompress.cli import training as t
from seclcompress.cli.console import err_console, loading
from seclcompress.cli.given import check_idle, check_needs
from seclcompress.cli.settings import make_settings, with_settings
from seclcompress.cli.streams import write_result
from seclcompress.errors import UsageError, describe_validation_error
from seclcompress.settings.slimming import Method, PriceBy, SlimOptions, Spread
from seclcompress.settings.training import EVALUATION

_DEFAULTS = SlimOptions()
_FIELDS = SlimOptions.model_fields
#: The options of gates.
_OF_GATES = ("price", "price_by", "price_decay")
#: Those of singular values.
_OF_PICTURES = ("energy", "pictures")
#: The options that do something without `--data`.
_WITHOUT_DATA = (
    *("network", "budget", "output_dir", "dry_run", "spread", "least", "weights", "weights_key"),
    *("input_size", "num_classes", "factory", "download", "seed", "overwrite", "json"),
    *("method", "rounds", "rewritten_as", *_OF_GATES, *_OF_PICTURES),
)
#: Those that do something for a network that is not trained meanwhile.
_WITHOUT_TRAINING = (*_WITHOUT_DATA, "data", "data_dir", *EVALUATION)


@with_settings(leave_out=("seed",))
def slim(
    context: typer.Context,
    given: dict[str, Any],
    network: o.NetworkArgument,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="LIMITS", help=o.BUDGET_HELP)
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="The folder to write.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Choose and report; write no network.")
    ] = False,
    spread: Annotated[
        Spread,
        typer.Option("--spread", help=SlimOptions.model_fields["spread"].description),
    ] = _DEFAULTS.spread,
    least: Annotated[
        float,
        typer.Option(
            "--least",
            min=0,
            max=1,
            metavar="SHARE",
            help=SlimOptions.model_fields["least"].description,
        ),
    ] = _DEFAULTS.least,
    method: Annotated[Method, typer.Option("--method", help=_FIELDS["method"].description)] = (
        _DEFAULTS.method
    ),
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help=_FIELDS["rounds"].description)
    ] = None,
    energy: Annotated[
        float | None,
        typer.Option("--energy", metavar="SHARE", help=_FIELDS["energy"].description),
    ] = None,
    pictures: Annotated[
        int, typer.Option("--pictures", min=1, help=_FIELDS["pictures"].description)
    ] = _DEFAULTS.pictures,
    rewritten_as: Annotated[
        str | None,
        typer.Option("--rewritten-as", metavar="NAME", help=_FIELDS["rewritten_as"].description),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option("--price", metavar="λ", help=_FIELDS["price"].description),
    ] = None,
    price_by: Annotated[
        PriceBy, typer.Option("--price-by", help=_FIELDS["price_by"].description)
    ] = _DEFAULTS.price_by,
    price_decay: Annotated[
        float, typer.Option("--price-decay", help=_FIELDS["price_decay"].description)
    ] = _DEFAULTS.price_decay,
    until: Annotated[
        float, typer.Option("--until", metavar="SHARE", help=_FIELDS["until"].description)
    ] = _DEFAULTS.until,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME",
            help="Measure the accuracy before and after on this data set, and estimate batch norm's "
            "statistics anew from its training images; or train on it.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="A network to learn from meanwhile: a name or a folder."),
    ] = None,
    teacher_weights: t.TeacherWeightsOption = None,
    teacher_weights_key: t.TeacherWeightsKeyOption = None,
    untrained_teacher: t.UntrainedTeacherOption = False,
    recipe: t.RecipeOption = None,
    weights: o.WeightsOption = None,
    weights_key: o.WeightsKeyOption = None,
    input_size: o.InputSizeOption = None,
    num_classes: o.NumClassesOption = None,
    data_dir: t.DataDirOption = None,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    seed: o.SeedOption = 0,
    resume: t.ResumeOption = False,
    overwrite: o.OverwriteOption = False,
    time_limit: t.TimeLimitOption = None,
    json: o.JsonOption = False,
) -> None:
    """Remove whole channels until a network meets a budget, those with the least weights first.

    What is left keeps its weights and runs anywhere as fast as its size says. It has to be trained again
    (distill, with the whole network as its teacher), and can then be converted as well. With --method
    svd, pictures say which channels the others can replace. With --rounds, or gates (--method), it is
    trained while it loses channels.
    """
    if output_dir is None and not dry_run:
        raise UsageError(
            "Where to? Give a folder with --output-dir/-o, or only choose with --dry-run."
        )
    if dry_run:
        check_idle(context, "--dry-run", "no network is made", of=("output_dir", "overwrite"))
    options = _options(
        method=method,
        rounds=rounds,
        energy=energy,
        pictures=pictures,
        rewritten_as=rewritten_as,
        spread=spread,
        least=least,
        price=price,
        price_by=price_by,
        price_decay=price_decay,
        until=until,
    )
    if not options.gated:
        check_idle(context, f"--method {method}", "it has no gates", of=_OF_GATES)
    if not options.looks:
        check_idle(context, f"--method {method}", "it looks at no pictures", of=_OF_PICTURES)
    if not options.trains:
        needed = "--rounds, or --method gates or sigmoid"
        check_needs(context, needed, but=_WITHOUT_TRAINING)
        if data is None:
            check_needs(context, "--data", but=_WITHOUT_DATA)
    t.check_resume(resume=resume, overwrite=overwrite)
    settings = make_settings(recipe, {**given, "seed": seed})
    size = o.parse_input_size(input_size)
    from rich.console import Console

    with loading():
        from seclcompress.cli.progress import DrawingImages
        from seclcompress.report import slimming
        from seclcompress.workflows.slimming import slim as run

    images = contextlib.nullcontext(DrawingImages(err_console))
    with t.observing() if options.trains else images as observer:
        done = run(
            network,
            budget,
            None if dry_run else output_dir,
            options=options,
            data=data,
            settings=settings,
            teacher=teacher,
            teacher_weights=teacher_weights,
            teacher_weights_key=teacher_weights_key,
            untrained_teacher=untrained_teacher,
            data_dir=data_dir,
            weights=weights,
            weights_key=weights_key,
            input_size=size,
            num_classes=num_classes,
            factory=factory,
            download=download,
            recipe=recipe,
            resume=resume,
            overwrite=overwrite,
            time_limit=time_limit,
            stopping=t.stopping_softly,
            seed=seed,
            observer=observer,
        )
    if json:
        write_result(slimming.slim_record(done).to_json())
        return
    console = Console(highlight=False, emoji=False)
    console.print(slimming.slim_tables(done, console.width))


def _options(**chosen: Any) -> SlimOptions:
    try:
        return SlimOptions(**chosen)
    except ValidationError as error:
        words = describe_validation_error(error)
        name = next((one for one in chosen if words.startswith(f"{one}:")), "")
        flag = f"--{name.replace('_', '-')}"
        raise UsageError(f"{flag}{words.removeprefix(name)}." if name else f"{words}.") from error
