"""Counts and plans as tables for people, and as JSON and CSV for programs. Figures come as they are."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from seclcompress.bench import Measured
from seclcompress.cost import EXECUTIONS
from seclcompress.count import COLUMNS, Count, Row
from seclcompress.plan import Plan
from seclcompress.survey import Surveyed

_NARROW = 76  # terminal columns that a line a layer needs


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
        width: Of the terminal; where the figures need more, each column becomes a paragraph.
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
    table = _wide(figures, titles) if _fits(figures, titles, width) else _narrow(figures, titles)
    heading = Text(f"{label}, batch 1, input {_size(counted.input_size)}", style="bold")
    return Group(heading, table, *_notes(counted, plan))


def _fits(figures: Mapping[str, Mapping[str, str]], titles: Mapping[str, str], width: int) -> bool:
    """Whether the wide table needs no more than the terminal has."""
    names = max(map(len, figures))
    columns = [
        max(*(len(row[c]) for row in figures.values()), *map(len, titles[c].split()))
        for c in COLUMNS
    ]
    return names + sum(columns) + 2 * len(columns) <= width


def _wide(figures: Mapping[str, Mapping[str, str]], titles: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("", no_wrap=True)
    for column in COLUMNS:
        # Two lines a heading leave room for eleven digits in 80 columns.
        title = titles[column].replace(" ", "\n")
        table.add_column(title, justify="right", vertical="bottom", no_wrap=True)
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
        f"{rewritten} of {every} {plan.kind} rewritten; chosen by the {plan.cost_model} cost "
        f"model: {rewritten - fast} dense, {fast} fast."
    ]
    if not rewritten:
        reasons = Counter(layer.reason for layer in plan.layers).most_common(3)
        listed = "; ".join(f"{reason} (×{times})" for reason, times in reasons)
        notes = [f"None of {every} {plan.kind} would be rewritten: {listed or 'there is none'}."]
    if counted.unknown:
        notes.append(
            f"Not counted, because nobody here knows how: {_occurrences(counted.unknown)}."
        )
    if counted.assumed:
        notes.append(
            "Sizes that depend on the image were taken at their largest (every box kept, up to the "
            f"network's own limits): {_occurrences(counted.assumed)}."
        )
    return [Text(note) for note in notes]


def _occurrences(times: Mapping[str, int]) -> str:
    return ", ".join(f"{name} (×{number})" for name, number in times.items())


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
        figures = ["\n".join(_changes(row, quantity)) for quantity in ("parameters", "mult_adds")]
        style = "" if row.substitution else "dim"
        table.add_row(_name(row), _fate(row), length, *figures, row.reason, style=style)
    return table


def _layer_paragraph(row: Row) -> Text:
    text = Text(f"{_name(row)}: {_fate(row)}\n", style="" if row.substitution else "dim")
    for title, quantity in (("parameters", "parameters"), ("Mult-Adds", "mult_adds")):
        text.append(f"  {title} {', '.join(_changes(row, quantity))}\n")
    return text.append(f"  {row.reason}")


def _name(row: Row) -> str:
    return row.name or "(the network)"


def _fate(row: Row) -> str:
    return f"{row.substitution}, {row.execution}" if row.substitution else "kept"


def _changes(row: Row, quantity: str) -> list[str]:
    """A quantity before, and after under each execution; the one that runs has the arrow."""
    before = getattr(row.columns["original"], quantity)
    lines = [f"{before:,}"]
    if row.substitution is None:
        return lines
    if quantity == "parameters":
        return [*lines, f"→ {row.columns['auto'].parameters:,}"]
    for execution in EXECUTIONS:
        arrow = "→ " if execution == row.execution else ""
        lines.append(f"{arrow}{execution} {row.columns[execution].mult_adds:,}")
    return lines


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


def bench_table(
    heading: str,
    machine: str,
    measured: Mapping[str, Measured],
    plans: Mapping[str, Plan],
    width: int,
) -> RenderableType:
    """Milliseconds a batch by variant, in the faster layout, with spread, memory and file size.

    Args:
        heading: Network, batch and input size.
        machine: Processor, threads, versions.
        measured: By column.
        plans: By memory layout.
        width: Of the terminal.
    """
    layout = measured["auto" if "auto" in measured else "original"].layout
    plan = plans[layout]
    titles = _titles(_family(plan))
    original = measured["original"].timing.median
    figures: dict[str, dict[str, str]] = {
        "ms a batch": {c: f"{1e3 * m.timing.median:.2f}" for c, m in measured.items()},
        "  middle half ±": {
            c: f"{50 * m.timing.spread / m.timing.median:.0f} %" for c, m in measured.items()
        },
        "  times faster": {c: f"{original / m.timing.median:.2f}" for c, m in measured.items()},
        "  layout": {c: m.layout for c, m in measured.items()},
        "  ms in the other": {c: f"{1e3 * m.other.median:.2f}" for c, m in measured.items()},
        "activations, MB": {
            c: "–" if m.peak_bytes is None else f"{m.peak_bytes / 1e6:.1f}"
            for c, m in measured.items()
        },
        "weights file, MB": {c: f"{m.file_bytes / 1e6:.2f}" for c, m in measured.items()},
    }
    for row in figures.values():
        for column in COLUMNS:
            row.setdefault(column, "–")
    table = _wide(figures, titles) if _fits(figures, titles, width) else _narrow(figures, titles)
    disagree = [layer for layer in plan.rewritten if layer.execution != layer.cost.cheapest]
    fast = sum(layer.execution == "fast" for layer in plan.rewritten)
    note = (
        f"Chosen in {layout}: {fast} of {len(plan.rewritten)} layers run fast; {len(disagree)} run "
        "otherwise than fewest Mult-Adds would have it."
    )
    notes = [Text(note)] if plan.cost_model == "measured" else []
    return Group(Text(heading, style="bold"), Text(machine, style="dim"), table, *notes)


def bench_json(
    heading: str, machine: str, measured: Mapping[str, Measured], plans: Mapping[str, Plan]
) -> str:
    """Every figure of `bench_table` as JSON, in seconds and bytes; the executions by layout."""
    content = {
        "network": heading,
        "machine": machine,
        "variants": {column: asdict(variant) for column, variant in measured.items()},
        "executions": {
            layout: {layer.name: layer.execution for layer in plan.rewritten}
            for layout, plan in plans.items()
        },
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


#: A survey's columns: the five of a count twice, exact, so that a line is long and can be compared.
_PARAMETERS, _MULT_ADDS, _NAME = 12, 16, 38


def survey_header(substitution: str) -> str:
    """Two lines above the lines of a survey."""
    short = [title.split()[-1] for title in _titles(substitution).values()]
    groups = (
        f"{'':{_NAME}} {'layers':>11} {'parameters':^{5 * (_PARAMETERS + 1)}}"
        f"{'Mult-Adds (MACs)':^{5 * (_MULT_ADDS + 1)}}{'chosen: times':>16}"
    )
    columns = "".join(f" {title:>{_PARAMETERS}}" for title in short)
    columns += "".join(f" {title:>{_MULT_ADDS}}" for title in short)
    heading = f"{'network':{_NAME}} {'now':>5} {'kept':>5}{columns} {'smaller':>7} {'fewer':>7}"
    return f"{groups.rstrip()}\n{heading} {'s':>5}  kept because"


def survey_line(surveyed: Surveyed) -> str:
    """One network: layers rewritten and kept, five columns twice, ratios, seconds, reasons."""
    counted = surveyed.counted
    if counted is None:
        return f"{surveyed.network:{_NAME}} refused: {surveyed.refused}"
    figures = "".join(f" {counted.columns[c].parameters:>{_PARAMETERS},}" for c in COLUMNS)
    figures += "".join(f" {counted.columns[c].mult_adds:>{_MULT_ADDS},}" for c in COLUMNS)
    smaller, fewer = (counted.ratio("auto", quantity) for quantity in ("parameters", "mult_adds"))
    kept = "; ".join(f"{reason} (×{times})" for reason, times in surveyed.kept)
    if counted.unknown:
        kept += f"; not counted: {_occurrences(counted.unknown)}"
    layers = f"{surveyed.rewritten:>5} {sum(times for _, times in surveyed.kept):>5}"
    return (
        f"{surveyed.network:{_NAME}} {layers}{figures} {smaller:>7.2f} {fewer:>7.2f} "
        f"{surveyed.seconds:>5.1f}  {kept}"
    )


def survey_csv(surveyed: Surveyed | None = None) -> str:
    """The same as one line of CSV, ended; for None the line with the columns' names."""
    quantities = ("parameters", "mult_adds")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if surveyed is None:
        names = [f"{column}_{quantity}" for quantity in quantities for column in COLUMNS]
        writer.writerow(["network", "input_size", "rewritten", "kept", *names, "seconds", "why"])
        return text.getvalue()
    kept = "; ".join(f"{reason} (×{times})" for reason, times in surveyed.kept)
    counted = surveyed.counted
    size = "" if counted is None else "x".join(map(str, counted.input_size))
    numbers: list[int | str] = [""] * (2 * len(COLUMNS))
    if counted is not None:
        columns = counted.columns
        numbers = [getattr(columns[c], quantity) for quantity in quantities for c in COLUMNS]
    layers = [surveyed.rewritten, sum(times for _, times in surveyed.kept)]
    why = surveyed.refused or kept
    writer.writerow([surveyed.network, size, *layers, *numbers, f"{surveyed.seconds:.2f}", why])
    return text.getvalue()
