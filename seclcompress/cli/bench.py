"""`seclcompress bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from seclcompress.cli import options as o
from seclcompress.cli.console import loading
from seclcompress.cli.drawing import Drawing
from seclcompress.cli.given import flags_given
from seclcompress.cli.planning import Asked, with_planning
from seclcompress.cli.streams import write_result

if TYPE_CHECKING:
    from seclcompress.workflows.exported import ExportedFile


@with_planning(leave_out=("channels_last", "runtime"), cost_model="measured")
def bench(
    *,
    context: typer.Context,
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
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime",
            metavar="NAMES",
            help="Side by side in these runtimes, with commas: torch, onnxruntime, openvino, "
            "executorch, litert.",
        ),
    ] = None,
    json: o.JsonOption = False,
    input_size: o.InputSizeOption = None,
    num_classes: o.NumClassesOption = None,
    asked: Asked,
    factory: o.FactoryOption = None,
    download: o.DownloadOption = False,
) -> None:
    """Time five variants of a network on this machine, side by side, in NCHW and channels_last.

    Every variant runs as for inference: structured layers that run dense become plain convolutions, and
    batch norm is folded into the layer before it. Weights do not affect the timings and are random.

    A file that `export` wrote is timed in its runtime as it is.
    """
    size = o.parse_input_size(input_size)
    with loading():
        from seclcompress.workflows.exported import check_runs_as_it_is, find_file

    file = find_file(network, "bench")
    if file is not None:
        flags = flags_given(context, but=("batch_size", "threads", "rounds", "json"))
        check_runs_as_it_is(file, flags)
        _bench_file(file, batch_size, threads, rounds, json)
        return
    from rich.console import Console

    from seclcompress.report.bench import bench_record, bench_table
    from seclcompress.report.runtimes import runtimes_record, runtimes_table
    from seclcompress.workflows.benching import bench as run

    found = run(
        network,
        options=asked.options,
        plan=asked.plan,
        input_size=size,
        num_classes=num_classes,
        factory=factory,
        download=download,
        batch_size=batch_size,
        threads=threads,
        rounds=rounds,
        runtimes=[name.strip() for name in runtime.split(",")] if runtime is not None else (),
        observer=Drawing(),
    )
    shape = "×".join(map(str, found.located.input_size))
    heading = f"{network}, batch {batch_size}, input {shape}"
    if found.runtimes is not None:
        plan = next(iter(found.plans.values()))
        if json:
            write_result(runtimes_record(heading, found.machine, found.runtimes).to_json())
            return
        console = Console(highlight=False, emoji=False)
        console.print(runtimes_table(heading, found.machine, found.runtimes, plan, console.width))
        return
    if json:
        record = bench_record(heading, found.machine, found.measured, found.plans)
        write_result(record.to_json())
        return
    console = Console(highlight=False, emoji=False)
    console.print(bench_table(heading, found.machine, found.measured, found.plans, console.width))


def _bench_file(
    file: ExportedFile, batch_size: int, threads: int | None, rounds: int, json: bool
) -> None:
    from seclcompress.report.records import BenchFileRecord
    from seclcompress.workflows.benching import bench_file

    timing, machine = bench_file(file, batch_size=batch_size, threads=threads, rounds=rounds)
    if json:
        record = BenchFileRecord(
            file=file.label,
            machine=machine,
            batch_size=batch_size,
            median=timing.median,
            spread=timing.spread,
        )
        write_result(record.to_json())
        return
    typer.echo(
        f"{file.label}, batch {batch_size}, in {file.format.version()}: "
        f"{1e3 * timing.median:.2f} ms a batch, middle half ± {50 * timing.spread / timing.median:.0f} %"
    )
    typer.echo(machine)
