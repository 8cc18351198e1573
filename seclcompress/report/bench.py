"""The timings of a whole network: a table for people, and a record for programs."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from seclcompress.bench import Measured
from seclcompress.plan import Plan
from seclcompress.report.records import BenchRecord
from seclcompress.report.tables import UNSTEADY, clock_notes, column_titles, figures_table


def bench_table(
    heading: str,
    machine: str,
    measured: Mapping[str, Measured],
    plans: Mapping[str, Plan],
    width: int,
) -> RenderableType:
    """Makes a table of milliseconds per batch, spread, memory and file size of each variant.

    The milliseconds are those of the faster memory layout.

    Args:
        heading: Network, batch size and input size.
        machine: Processor, threads, versions.
        measured: The measurements by column.
        plans: The plans by memory layout.
        width: The width of the terminal in characters.
    """
    layout = measured["auto" if "auto" in measured else "original"].layout
    plan = plans[layout]
    titles = column_titles(plan.families)
    original = measured["original"].timing.median
    unsteady = any(m.timing.is_unsteady for m in measured.values())
    figures: dict[str, dict[str, str]] = {
        "ms a batch": {c: f"{1e3 * m.timing.median:.2f}" for c, m in measured.items()},
        "  middle half ±": {
            c: f"{50 * m.timing.spread / m.timing.median:.0f} %" for c, m in measured.items()
        },
        "  times faster": {
            c: "–" if unsteady else f"{original / m.timing.median:.2f}" for c, m in measured.items()
        },
        "  layout": {c: m.layout for c, m in measured.items()},
        "  ms in the other": {c: f"{1e3 * m.other.median:.2f}" for c, m in measured.items()},
        "activations, MB": {
            c: "–" if m.peak_bytes is None else f"{m.peak_bytes / 1e6:.1f}"
            for c, m in measured.items()
        },
        "weights file, MB": {c: f"{m.file_bytes / 1e6:.2f}" for c, m in measured.items()},
    }
    for row in figures.values():
        for column in titles:
            row.setdefault(column, "–")
    table = figures_table(figures, titles, width)
    disagree = [layer for layer in plan.rewritten if layer.execution != layer.cost.cheapest]
    fast = sum(layer.execution == "fast" for layer in plan.rewritten)
    note = (
        f"Chosen in {layout}: {fast} of {len(plan.rewritten)} layers run fast; {len(disagree)} run "
        "otherwise than fewest Mult-Adds would have it."
    )
    words = [note, *clock_notes(plan)] if plan.cost_model == "measured" else []
    if unsteady:
        words = [UNSTEADY, *words]
    notes = [Text(line) for line in words]
    return Group(Text(heading, style="bold"), Text(machine, style="dim"), table, *notes)


def bench_record(
    heading: str, machine: str, measured: Mapping[str, Measured], plans: Mapping[str, Plan]
) -> BenchRecord:
    """Every figure of `bench_table`, in seconds and bytes, and the layers' executions by layout.

    Args:
        heading: Network, batch size and input size.
        machine: Processor, threads, versions.
        measured: The measurements by column.
        plans: The plans by memory layout.
    """
    return BenchRecord(
        network=heading,
        machine=machine,
        variants=dict(measured),
        executions={
            layout: {layer.name: layer.execution for layer in plan.rewritten}
            for layout, plan in plans.items()
        },
    )
