"""Counts and plans as tables for people, and as JSON and CSV for programs. Figures come as they are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from seclcompress.count import COLUMNS, Count, Row
from seclcompress.plan import Plan

_NARROW = 76  # terminal columns that five figures and their names need


def _titles(substitution: str) -> dict[str, str]:
    family = {"acdc": "SECL"}.get(substitution, substitution)
    return {
        "original": "original",
        "separable": "plain separable",
        "dense": f"{family} dense",
        "fast": f"{family} fast",
        "auto": f"{family} chosen",
    }


def _family(plan: Plan) -> str:
    """The family that most rewritten layers belong to."""
    used = [layer.substitution or "" for layer in plan.rewritten]
    return max(sorted(set(used)), key=used.count) if used else "acdc"


def _size(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))


def count_table(
    label: str, counted: Count, plan: Plan, accuracies: Mapping[str, float], width: int
) -> RenderableType:
    """The five columns with totals and ratios.

    Args:
        label: The network, as the person named it.
        counted: The figures.
        plan: Whose layers they are.
        accuracies: Percent by column, where measured.
        width: Of the terminal; a narrow one gets one line a column.
    """
    titles = _titles(_family(plan))
    figures: dict[str, dict[str, str]] = {
        "parameters": {c: f"{counted.columns[c].parameters:,}" for c in COLUMNS},
        "  times smaller": {c: f"{counted.ratio(c, 'parameters'):.2f}" for c in COLUMNS},
        "float32 bytes": {c: f"{4 * counted.columns[c].parameters:,}" for c in COLUMNS},
        "Mult-Adds (MACs)": {c: f"{counted.columns[c].mult_adds:,}" for c in COLUMNS},
        "  times fewer": {c: f"{counted.ratio(c, 'mult_adds'):.2f}" for c in COLUMNS},
    }
    if accuracies:
        figures["accuracy %"] = {
            c: f"{accuracies[c]:.2f}" if c in accuracies else "–" for c in COLUMNS
        }
    table = _narrow(figures, titles) if width < _NARROW else _wide(figures, titles)
    heading = Text(f"{label}, batch 1, input {_size(counted.input_size)}", style="bold")
    return Group(heading, table, *_notes(counted, plan))


def _wide(figures: Mapping[str, Mapping[str, str]], titles: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("")
    for column in COLUMNS:
        # Two lines a heading leave room for eleven digits in 80 columns.
        table.add_column(titles[column].replace(" ", "\n"), justify="right", vertical="bottom")
    for name, row in figures.items():
        table.add_row(name, *[row[column] for column in COLUMNS])
    return table


def _narrow(figures: Mapping[str, Mapping[str, str]], titles: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
    table.add_column("")
    table.add_column("", justify="right")
    for column in COLUMNS:
        table.add_row(Text(titles[column], style="bold"), "")
        for name, row in figures.items():
            table.add_row(f" {name.strip()}", row[column])
    return table


def _notes(counted: Count, plan: Plan) -> list[Text]:
    rewritten, every = len(plan.rewritten), len(plan.layers)
    fast = sum(layer.execution == "fast" for layer in plan.rewritten)
    notes = [
        f"{rewritten} of {every} convolutions rewritten; chosen by the {plan.cost_model} cost "
        f"model: {rewritten - fast} dense, {fast} fast."
    ]
    if counted.unknown:
        listed = ", ".join(f"{name} (×{times})" for name, times in counted.unknown.items())
        notes.append(f"Not counted, because nobody here knows how: {listed}.")
    return [Text(note) for note in notes]


def layers_table(counted: Count, width: int) -> RenderableType:
    """One entry a layer: fate, parameters, Mult-Adds, and why.

    Args:
        counted: The figures.
        width: Of the terminal; a narrow one gets a paragraph a layer instead of a line.
    """
    if width < _NARROW:
        return Group(*[_layer_paragraph(row) for row in counted.rows])
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("layer", overflow="fold")
    table.add_column("becomes", overflow="fold")
    table.add_column("N", justify="right", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("Mult-Adds", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in counted.rows:
        length = "" if row.length is None else str(row.length)
        changes = [_change(row, quantity, "\n→ ") for quantity in ("parameters", "mult_adds")]
        style = "" if row.substitution else "dim"
        table.add_row(_name(row), _fate(row), length, *changes, row.reason, style=style)
    return table


def _layer_paragraph(row: Row) -> Text:
    text = Text(f"{_name(row)}: {_fate(row)}\n", style="" if row.substitution else "dim")
    for title, quantity in (("parameters", "parameters"), ("Mult-Adds", "mult_adds")):
        text.append(f"  {title} {_change(row, quantity, ' → ')}\n")
    return text.append(f"  {row.reason}")


def _name(row: Row) -> str:
    return row.name or "(the network)"


def _fate(row: Row) -> str:
    return f"{row.substitution}, {row.execution}" if row.substitution else "kept"


def _change(row: Row, quantity: str, arrow: str) -> str:
    before = getattr(row.columns["original"], quantity)
    after = getattr(row.columns["auto"], quantity)
    return f"{before:,}" if before == after else f"{before:,}{arrow}{after:,}"


def count_json(label: str, counted: Count, plan: Plan, accuracies: Mapping[str, float]) -> str:
    """Every figure of `count_table` and `layers_table` as JSON."""
    content: dict[str, Any] = {"network": label, "cost_model": plan.cost_model}
    content.update(counted.to_dict())
    content["accuracies"] = dict(accuracies)
    return json.dumps(content, indent=2, ensure_ascii=False)


def count_csv(counted: Count) -> str:
    """One line a layer and a last line `total`; the columns' names are `<column>_<quantity>`."""
    quantities = ("parameters", "mult_adds")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["name", "layer", "action", "substitution", "length", "execution", "reason"]
        + [f"{column}_{quantity}" for column in COLUMNS for quantity in quantities]
    )

    def figures(columns: Mapping[str, Any]) -> list[int]:
        return [getattr(columns[c], quantity) for c in COLUMNS for quantity in quantities]

    for row in counted.rows:
        about = [row.name, row.layer, row.action, row.substitution, row.length, row.execution]
        writer.writerow([*about, row.reason, *figures(row.columns)])
    writer.writerow(["total", "", "", "", "", "", "", *figures(counted.columns)])
    return text.getvalue()
