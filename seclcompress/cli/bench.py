"""`seclcompress bench`."""

from __future__ import annotations

from typing import Annotated

import typer

from seclcompress.cli import options as o
from seclcompress.cli import planning
from seclcompress.cli.console import err_console
from seclcompress.errors import UsageError


def bench(
    context: typer.Context,
    network: o.NetworkArgument,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images at once.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Of torch.  [default: torch's own choice]"),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option("--rounds", min=3, help="How often each variant is timed, there and back."),
    ] = 9,
    json: Annotated[bool, typer.Option("--json", help="Every figure as JSON.")] = False,
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
    cost_model: o.CostModelOption = o.CostModel.measured,
    plan: o.PlanOption = None,
    factory: o.FactoryOption = None,
) -> None:
    """Time the network five ways on this machine, side by side; NCHW against channels_last.

    Every variant runs as for inference: layers that run dense as plain convolutions, batch norm
    folded into what stands before it. Weights do not matter and are fresh.
    """
    planning.check_plan_alone(context, plan)
    size = o.parse_input_size(input_size)
    wanted = planning.plan_options(
        substitution, depth, option, keep, only, stem, linear, head, min_channels, cost_model
    )
    import torch
    from rich.console import Console

    from seclcompress import report
    from seclcompress.bench import LAYOUTS, variants
    from seclcompress.bench import bench as run
    from seclcompress.networks import build_untrained
    from seclcompress.plan import PlanOptions, make_plan
    from seclcompress.resolve import locate
    from seclcompress.rewrite import rewrite_network
    from seclcompress.timing import describe_machine

    if threads is not None:
        torch.set_num_threads(threads)
    source = locate(network, num_classes=num_classes, input_size=size, factory_name=factory)
    if len(source.input_size) + 1 not in LAYOUTS:
        raise UsageError(
            "bench runs images, channels×height×width, or clips, channels×frames×height×width; got "
            f"{source.input_size}."
        )
    saved = planning.saved_plan(context, source, plan)
    skeleton, traced, decided = planning.planned(
        source, wanted, plan, saved=saved, may_be_empty=True, batch=batch_size
    )
    first, last = LAYOUTS[len(source.input_size) + 1]
    plans = {first: decided, last: decided}
    if plan is None and saved is None and cost_model == o.CostModel.measured:
        plans[last] = planning.measured_plan(
            skeleton, traced, wanted, may_be_empty=True, batch=batch_size, channels_last=True
        )
    kept = tuple(layer.name for layer in decided.layers if layer.on_demand)
    baseline = PlanOptions(
        substitution="separable", keep=kept, stem=True, linear=decided.linear, head=True
    )
    plain = make_plan(skeleton, traced, baseline, may_be_empty=True)

    def original() -> torch.nn.Module:
        return build_untrained(source.network, factory_name=source.factory_name)

    separable = rewrite_network(original(), plain) if plain.rewritten else None
    structured = {}
    if decided.rewritten:
        structured = dict.fromkeys(plans, rewrite_network(original(), decided))
        if plans[last] is not decided:
            structured[last] = rewrite_network(original(), plans[last])
    with err_console.status("Timing all variants in turn …"):
        measured = run(
            variants(original(), separable, structured, source.input_size),
            source.input_size,
            batch=batch_size,
            rounds=rounds,
        )
    heading = f"{network}, batch {batch_size}, input {'×'.join(map(str, source.input_size))}"
    if json:
        typer.echo(report.bench_json(heading, describe_machine(), measured, plans))
        return
    console = Console(highlight=False, emoji=False)
    console.print(report.bench_table(heading, describe_machine(), measured, plans, console.width))
