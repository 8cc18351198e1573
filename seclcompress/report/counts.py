"""Counts and plans: tables for people, a record and CSV for programs. Nothing is computed but ratios."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from seclcompress.count import Count, Row
from seclcompress.plan import Plan
from seclcompress.report.records import CountRecord
from seclcompress.report.tables import clock_notes, column_titles, figures_table, occurrences

#: What a table says of Mult-Adds, by the convention that they are counted by.
_MULT_ADDS: dict[str, str] = {"macs": "Mult-Adds (MACs)", "log": "Mult-Adds (log)"}
_NARROW = 76  # characters that a table with one line per layer needs


def exported_bytes(counted: Count, dense: int) -> dict[str, dict[str, int]]:
    """The bytes of the weights when exported, by how they are written and by column.

    A file has some kilobytes more, for the graph, and with int8 for a scale a row.

    Args:
        counted: The figures.
        dense: Parameters of the rewritten network multiplied out.
    """
    numbers = {column: totals.parameters for column, totals in counted.columns.items()}
    plain = {c: n if c in ("original", "separable") else dense for c, n in numbers.items()}
    return {
        "dense float32": {column: 4 * number for column, number in plain.items()},
        "factors float32": {column: 4 * number for column, number in numbers.items()},
        "factors int8": numbers,
    }


def count_table(
    label: str,
    counted: Count,
    plan: Plan,
    accuracies: Mapping[str, float],
    width: int,
    dense: int | None = None,
) -> RenderableType:
    """Makes the table of totals and ratios, followed by notes.

    Args:
        label: The network, as the user named it.
        counted: The figures.
        plan: The plan that was counted.
        accuracies: Accuracies in percent by column, where measured.
        width: The width of the terminal in characters. If the table is wider, each column becomes a
            paragraph.
        dense: Parameters of the rewritten network multiplied out, for the rows of bytes when exported;
            None for no such rows.
    """
    titles = _titles(counted, plan)
    figures: dict[str, dict[str, str]] = {
        "parameters": {c: f"{counted.columns[c].parameters:,}" for c in titles},
        "  times smaller": {c: f"{counted.ratio(c, 'parameters'):.2f}" for c in titles},
        "float32 bytes": {c: f"{4 * counted.columns[c].parameters:,}" for c in titles},
        **_exported(counted, titles, dense),
        _MULT_ADDS[counted.convention]: {c: f"{counted.columns[c].mult_adds:,}" for c in titles},
        "  times fewer": {c: f"{counted.ratio(c, 'mult_adds'):.2f}" for c in titles},
    }
    if accuracies:
        figures["accuracy %"] = {
            c: f"{accuracies[c]:.2f}" if c in accuracies else "–" for c in titles
        }
    table = figures_table(figures, titles, width)
    heading = Text(f"{label}, batch 1, input {_size(counted.input_size)}", style="bold")
    return Group(heading, table, *_notes(counted, plan))


def _exported(
    counted: Count, titles: Mapping[str, str], dense: int | None
) -> dict[str, dict[str, str]]:
    if dense is None:
        return {}
    short = {"dense float32": "dense", "factors float32": "factors", "factors int8": "int8"}
    return {
        f"export, {short[way]}": {c: f"{row[c]:,}" for c in titles}
        for way, row in exported_bytes(counted, dense).items()
    }


def _titles(counted: Count, plan: Plan) -> dict[str, str]:
    """The titles of the columns that were counted."""
    titles = column_titles(plan.families)
    if counted.convention != "macs":  # how a layer runs is the convention's choice, not the plan's
        titles["auto"] = titles["auto"].removesuffix(" chosen")
    return {column: title for column, title in titles.items() if column in counted.columns}


def _size(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))


def _notes(counted: Count, plan: Plan) -> list[Text]:
    rewritten, every = len(plan.rewritten), len(plan.layers)
    notes = [
        f"{rewritten} of {every} {plan.kind} rewritten{_by_family(plan)}"
        f"{_by_execution(plan) if counted.convention == 'macs' else ''}."
    ]
    if not rewritten:
        reasons = Counter(layer.reason for layer in plan.layers).most_common(3)
        listed = "; ".join(f"{reason} (×{times})" for reason, times in reasons)
        notes = [f"None of {every} {plan.kind} would be rewritten: {listed or 'there is none'}."]
    if counted.convention == "log":
        notes.append(
            "Mult-Adds as the SECL authors' research log counts them: ReLU and pooling modules and the "
            "classifier's bias as well; docs/reference_counts.md says how."
        )
    if counted.unknown:
        notes.append(f"Not counted, because nobody here knows how: {occurrences(counted.unknown)}.")
    if counted.assumed:
        notes.append(
            "Sizes that depend on the image were taken at their largest (every box kept, up to the "
            f"network's own limits): {occurrences(counted.assumed)}."
        )
    return [Text(note) for note in [*notes, *clock_notes(plan)]]


def _by_family(plan: Plan) -> str:
    """The number of layers per family; empty if there is only one family."""
    times = Counter(layer.substitution for layer in plan.rewritten)
    listed = ", ".join(f"{times[family]} as {family}" for family in plan.families)
    return f": {listed}" if len(times) > 1 else ""


def _by_execution(plan: Plan) -> str:
    """The number of layers per execution, among layers that have a choice; empty without a choice."""
    if len(plan.executions) < 2:
        return ""
    chosen: list[str] = [
        layer.execution for layer in plan.rewritten if len(layer.cost.mult_adds) > 1
    ]
    listed = ", ".join(f"{chosen.count(way)} {way}" for way in plan.executions)
    where = f" in {plan.runtime}" if plan.runtime else ""
    return f"; chosen by the {plan.cost_model} cost model{where}: {listed}"


def layers_table(counted: Count, width: int) -> RenderableType:
    """Makes a table with one entry per layer: what it becomes, parameters, Mult-Adds, and the reason.

    Args:
        counted: The figures.
        width: The width of the terminal in characters. In a narrow terminal each layer becomes a
            paragraph.
    """
    if width < _NARROW:
        return Group(*[_layer_paragraph(row) for row in counted.rows])
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("layer", overflow="fold")
    table.add_column("becomes", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("Mult-Adds", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in counted.rows:
        figures = ["\n".join(_changes(row, quantity)) for quantity in ("parameters", "mult_adds")]
        style = "" if row.substitution else "dim"
        table.add_row(_name(row), _fate(row), *figures, row.reason, style=style)
    return table


def _layer_paragraph(row: Row) -> Text:
    text = Text(f"{_name(row)}: {_fate(row)}\n", style="" if row.substitution else "dim")
    for title, quantity in (("parameters", "parameters"), ("Mult-Adds", "mult_adds")):
        changes = _changes(row, quantity)
        between = " " if len(changes) == 2 else ", "  # of one execution: before → after
        text.append(f"  {title} {between.join(changes)}\n")
    return text.append(f"  {row.reason}")


def _name(row: Row) -> str:
    return row.name or "(the network)"


def _fate(row: Row) -> str:
    if row.substitution is None:
        return "kept"
    return f"{row.substitution}, {row.execution}" if len(row.executions) > 1 else row.substitution


def _changes(row: Row, quantity: str) -> list[str]:
    """A quantity before and after, for each execution; an arrow marks the chosen execution."""
    before = getattr(row.columns["original"], quantity)
    lines = [f"{before:,}"]
    if row.substitution is None:
        return lines
    if quantity == "parameters":
        return [*lines, f"→ {row.columns['auto'].parameters:,}"]
    if len(row.executions) == 1:
        return [*lines, f"→ {row.columns['auto'].mult_adds:,}"]
    for execution in row.executions:
        arrow = "→ " if execution == row.execution else ""
        lines.append(f"{arrow}{execution} {row.columns[execution].mult_adds:,}")
    return lines


def count_record(
    label: str,
    counted: Count,
    plan: Plan,
    accuracies: Mapping[str, float],
    dense: int | None = None,
) -> CountRecord:
    """Every figure of `count_table` and `layers_table`, for programs."""
    return CountRecord(
        network=label,
        cost_model=plan.cost_model,
        runtime=plan.runtime,
        objective=plan.objective,
        accuracies=dict(accuracies),
        exported_bytes=None if dense is None else exported_bytes(counted, dense),
        **counted.to_dict(),
    )


def count_csv(counted: Count) -> str:
    """One line per layer and a last line `total`; the figures' columns are `<column>_<quantity>`."""
    quantities = ("parameters", "mult_adds")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["name", "layer", "action", "substitution", "execution", "reason"]
        + [f"{column}_{quantity}" for column in counted.columns for quantity in quantities]
    )

    def figures(columns: Mapping[str, Any]) -> list[int]:
        return [getattr(columns[c], quantity) for c in counted.columns for quantity in quantities]

    for row in counted.rows:
        about = [row.name, row.layer, row.action, row.substitution, row.execution]
        writer.writerow([*about, row.reason, *figures(row.columns)])
    writer.writerow(["total", "", "", "", "", "", *figures(counted.columns)])
    return text.getvalue()
