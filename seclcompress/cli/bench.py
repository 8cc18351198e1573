"""`seclcompress bench`."""

from __future__ import annotations

from typing import Annotated

import typer

from seclcompress.cli import options as o
from seclcompress.cli.drawing import Drawing
from seclcompress.cli.planning import Asked, with_planning


@with_planning(leave_out=("channels_last",), cost_model="measured")
def bench(
    *,
    network: o.NetworkArgument,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images at once.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Threads of torch.  [default: torch's own choice]"),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option("--rounds", min=3, help="How often each variant is timed, there and back."),
    ] = 9,
    json: Annotated[bool, typer.Option("--json", help="Every figure as JSON.")] = False,
    input_size: o.InputSizeOption = None,
    num_classes: o.NumClassesOption = None,
    asked: Asked,
    factory: o.FactoryOption = None,
) -> None:
    """Time five variants of a network on this machine, side by side, in NCHW and channels_last.

    Every variant runs as for inference: structured layers that run dense become plain convolutions, and
    batch norm is folded into the layer before it. Weights do not affect the timings and are random.
    """
    size = o.parse_input_size(input_size)
    from rich.console import Console

    from seclcompress import workflows
    from seclcompress.report.bench import bench_json, bench_table

    found = workflows.bench(
        network,
        options=asked.options,
        plan=asked.plan,
        input_size=size,
        num_classes=num_classes,
        factory=factory,
        batch_size=batch_size,
        threads=threads,
        rounds=rounds,
        observer=Drawing(),
    )
    shape = "×".join(map(str, found.located.input_size))
    heading = f"{network}, batch {batch_size}, input {shape}"
    if json:
        typer.echo(bench_json(heading, found.machine, found.measured, found.plans))
        return
    console = Console(highlight=False, emoji=False)
    console.print(bench_table(heading, found.machine, found.measured, found.plans, console.width))
