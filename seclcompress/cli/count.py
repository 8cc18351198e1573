"""`seclcompress count`."""

from __future__ import annotations

from typing import Annotated

import typer

from seclcompress.cli import options as o
from seclcompress.cli import planning
from seclcompress.cli.console import err_console
from seclcompress.errors import UsageError


def count(
    context: typer.Context,
    network: o.NetworkArgument,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="One line a layer as well.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Every figure as JSON.")] = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Every figure as CSV, one line a layer.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Build the networks and let fvcore count them as well.")
    ] = False,
    input_size: o.InputSizeOption = None,
    num_classes: o.NumClassesOption = None,
    substitution: o.SubstitutionOption = "acdc",
    depth: o.DepthOption = None,
    option: o.OptionOption = None,
    keep: o.KeepOption = None,
    only: o.OnlyOption = None,
    stem: o.StemOption = False,
    linear: o.LinearOption = False,
    head: o.HeadOption = False,
    min_channels: o.MinChannelsOption = 1,
    cost_model: o.CostModelOption = o.CostModel.paper,
    channels_last: o.ChannelsLastOption = False,
    plan: o.PlanOption = None,
    factory: o.FactoryOption = None,
) -> None:
    """Parameters and Mult-Adds before and after. Needs no data and no weights.

    For a converted folder the figures are those of its plan; with planning options, or for any other
    network, they say what a conversion would save.
    """
    if json and csv:
        raise UsageError("--json and --csv exclude each other.")
    planning.check_plan_alone(context, plan)
    size = o.parse_input_size(input_size)
    wanted = planning.plan_options(
        substitution,
        depth,
        option,
        keep,
        only,
        stem,
        linear,
        head,
        min_channels,
        cost_model,
        channels_last,
    )
    from dataclasses import replace

    from rich.console import Console

    from seclcompress import witness
    from seclcompress.count import count_network
    from seclcompress.report import counts
    from seclcompress.resolve import locate

    source = locate(network, num_classes=num_classes, input_size=size, factory_name=factory)
    saved = planning.saved_plan(context, source, plan)
    skeleton, traced, decided = planning.planned(
        source, wanted, plan, saved=saved, may_be_empty=True, channels_last=channels_last
    )
    accuracies = _accuracies(source.config.metrics) if saved and source.config else {}
    counted = count_network(skeleton, traced, decided)
    if verify:
        original, _ = replace(source, weights=None, folder=None).load()
        for column, mult_adds in witness.verify(original, decided, counted).items():
            err_console.print(f"fvcore agrees on '{column}': {mult_adds:,} Mult-Adds.")
    if json:
        typer.echo(counts.count_json(network, counted, decided, accuracies))
        return
    if csv:
        typer.echo(counts.count_csv(counted), nl=False)
        return
    console = Console(highlight=False, emoji=False)
    if per_layer:
        console.print(counts.layers_table(counted, console.width))
        console.print()
    console.print(counts.count_table(network, counted, decided, accuracies, console.width))


def _accuracies(metrics: dict[str, float]) -> dict[str, float]:
    """Percent by column, as far as a training run has measured them."""
    known = {"original": "teacher_accuracy", "auto": "accuracy"}
    return {column: metrics[name] for column, name in known.items() if name in metrics}
