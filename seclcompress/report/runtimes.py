"""Timings of a network in several runtimes: a table for people, and a record for programs."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from seclcompress.export.race import Runtimes
from seclcompress.plan import Plan
from seclcompress.report.records import RuntimesRecord
from seclcompress.report.tables import UNSTEADY, clock_notes, column_titles, figures_table


def runtimes_table(
    heading: str, machine: str, found: Runtimes, plan: Plan, width: int
) -> RenderableType:
    """Makes a table of milliseconds a batch in every runtime, and how many times faster that is.

    Args:
        heading: Network, batch size and input size.
        machine: Processor, threads, versions.
        found: The timings.
        plan: The plan, which names the families.
        width: The width of the terminal in characters.
    """
    named = column_titles(plan.families)
    family = named.get("dense", f"{named['auto']} dense")
    titles = {"original": "original", "separable": named["separable"], "dense": family}
    titles |= {"auto": named["auto"] if "dense" in named else f"{named['auto']} chosen"}
    there = {column for row in found.timings.values() for column in row}
    titles = {column: title for column, title in titles.items() if column in there}
    figures: dict[str, dict[str, str]] = {}
    disturbed = False
    for runtime, row in found.timings.items():
        original = row["original"].median
        unsteady = any(timing.is_unsteady for timing in row.values())
        disturbed |= unsteady
        figures[f"{runtime}, ms"] = {
            c: f"{1e3 * row[c].median:.2f}" if c in row else "–" for c in titles
        }
        figures[f"  times faster ({runtime})"] = {
            c: f"{original / row[c].median:.2f}" if c in row and not unsteady else "–"
            for c in titles
        }
    notes = [*([UNSTEADY] if disturbed else []), *clock_notes(plan), *slower_notes(found)]
    versions = ", ".join(found.versions.values())
    table = figures_table(figures, titles, width)
    return Group(
        Text(heading, style="bold"),
        Text(machine, style="dim"),
        Text(versions, style="dim"),
        table,
        *map(Text, notes),
    )


def slower_notes(found: Runtimes) -> list[str]:
    """Says in which runtimes the chosen executions are slower together than everything dense.

    A layer that is faster by itself may make the network slower: its inputs and outputs have to be laid
    out anew, and it is not fused with what is beside it.

    Args:
        found: The timings.
    """
    notes = []
    for runtime, row in found.timings.items():
        if not row.keys() >= {"dense", "auto"} or any(one.is_unsteady for one in row.values()):
            continue
        dense, chosen = row["dense"], row["auto"]
        if chosen.median - dense.median > max(chosen.spread, dense.spread):
            notes.append(
                f"In {runtime} the chosen executions are slower together than everything dense, by "
                f"{1e3 * (chosen.median - dense.median):.2f} ms, whatever each layer takes by itself: "
                "run it dense there (export does by default)."
            )
    return notes


def runtimes_record(heading: str, machine: str, found: Runtimes) -> RuntimesRecord:
    """Every figure, in seconds, for programs."""
    return RuntimesRecord(
        network=heading,
        machine=machine,
        versions=dict(found.versions),
        runtimes={runtime: dict(row) for runtime, row in found.timings.items()},
    )
