"""`seclcompress convert`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from seclcompress.cli import options as o
from seclcompress.cli.console import loading
from seclcompress.cli.drawing import Drawing
from seclcompress.cli.given import check_idle, flags_given
from seclcompress.cli.planning import Asked, with_planning
from seclcompress.cli.streams import write_result
from seclcompress.errors import UsageError

if TYPE_CHECKING:
    from seclcompress.workflows.converting import Converted

#: Options that are no matter of the file of `--from-secl`; `_extra_riffle` looks into the last two.
_BESIDE_A_CHECKPOINT = (
    *("output_dir", "from_secl", "num_classes", "overwrite", "json"),
    *("option", "depth"),
)

#: Options that say which network is written where; a plan alone needs none of them.
_OF_THE_NETWORK = ("output_dir", "seed", "start")


class Start(str, Enum):
    """`--start`."""

    random = "random"
    original = "original"


@with_planning()
def convert(
    *,
    context: typer.Context,
    network: o.NetworkArgument,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="The folder to write.")
    ] = None,
    weights: o.WeightsOption = None,
    weights_key: o.WeightsKeyOption = None,
    input_size: o.InputSizeOption = None,
    num_classes: o.NumClassesOption = None,
    asked: Asked,
    from_secl: Annotated[
        Path | None,
        typer.Option(
            "--from-secl",
            metavar="FILE",
            help="Take over a trained network of the SECL authors' programs (pytorch-acdc, "
            "deficient-efficient): a checkpoint of this wrn<depth>_<width>.",
        ),
    ] = None,
    write_plan: Annotated[
        Path | None, typer.Option("--write-plan", metavar="FILE", help="Write the plan as JSON.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan and report; write no network.")
    ] = False,
    seed: o.SeedOption = 0,
    start: Annotated[
        Start,
        typer.Option(
            "--start",
            help="The new layers' first values: random, or fitted to the original's weights (slow for "
            "wide layers).",
        ),
    ] = Start.random,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
    overwrite: o.OverwriteOption = False,
    json: o.JsonOption = False,
) -> None:
    """Rewrite a network's convolutions: plan, say why, save. The new layers are untrained.

    Layers that are kept keep their weights. Train the result with `seclcompress distill`.
    """
    if output_dir is None and not dry_run:
        raise UsageError(
            "Where to? Give a folder with --output-dir/-o, or only plan with --dry-run."
        )
    size = o.parse_input_size(input_size)
    with loading():
        from seclcompress.workflows.converting import convert as run
        from seclcompress.workflows.importing import import_secl

    if from_secl is not None:
        extra_riffle = _extra_riffle(asked, flags_given(context, but=_BESIDE_A_CHECKPOINT))
        assert output_dir is not None
        converted = import_secl(
            network,
            from_secl,
            output_dir,
            extra_riffle=extra_riffle,
            num_classes=num_classes,
            overwrite=overwrite,
            observer=Drawing() if json else _Tables(),
        )
        _show(network, converted, json=json)
        return
    if dry_run:
        check_idle(context, "--dry-run", "no network is made", of=_OF_THE_NETWORK)
    converted = run(
        network,
        None if dry_run else output_dir,
        options=asked.options,
        plan=asked.plan,
        weights=weights,
        weights_key=weights_key,
        input_size=size,
        num_classes=num_classes,
        factory=factory,
        download=download,
        seed=seed,
        start=start.value,
        write_plan=write_plan,
        overwrite=overwrite,
        observer=Drawing() if json else _Tables(),
    )
    _show(network, converted, json=json)


def _show(network: str, converted: Converted, *, json: bool) -> None:
    """Prints what was done as JSON; the tables were printed before it was done."""
    if not json:
        return
    from seclcompress.report.records import ConvertRecord

    output_dir = converted.output_dir
    record = ConvertRecord(
        network=network,
        output_dir=None if output_dir is None else str(output_dir),
        columns=converted.count.columns,
        plan=converted.plan,
        untrained=list(converted.untrained),
        fits=dict(converted.fits),
    )
    write_result(record.to_json())


def _extra_riffle(asked: Asked, given: list[str]) -> bool | None:
    """What `--option extra_riffle=…` says, the only planning option that a checkpoint leaves open."""
    from seclcompress import substitutions

    config = {} if asked.options is None else asked.options.config
    given = [*given, *(f"--option {name}" for name in config if name != "extra_riffle")]
    if given:
        raise UsageError(
            f"--from-secl: the file decides what {', '.join(given)} would. Only --option "
            "extra_riffle=true or =false may be said beside it."
        )
    if "extra_riffle" not in config:
        return None
    return bool(substitutions.get("acdc").config(config).model_dump()["extra_riffle"])


class _Tables(Drawing):
    """Prints the decisions before anything is written, because the work may then take minutes."""

    def decided(self, label: str, plan: Any, counted: Any) -> None:
        from seclcompress.report import counts

        console = Console(highlight=False, emoji=False)
        console.print(counts.layers_table(counted, console.width))
        console.print()
        console.print(counts.count_table(label, counted, plan, {}, console.width))
