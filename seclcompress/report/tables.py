"""What the tables of several subjects share: the columns' titles, and a table wide or narrow."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from seclcompress.count import COLUMNS
from seclcompress.plan import Plan


def column_titles(substitution: str) -> dict[str, str]:
    """What people read above each column, for a plan of this family."""
    family = {"acdc": "SECL"}.get(substitution, substitution)
    return {
        "original": "original",
        "separable": "plain separable",
        "dense": f"{family} dense",
        "fast": f"{family} fast",
        "auto": f"{family} chosen",
    }


def main_family(plan: Plan) -> str:
    """The family that most rewritten layers belong to."""
    used = [layer.substitution or "" for layer in plan.rewritten]
    return max(sorted(set(used)), key=used.count) if used else "acdc"


def figures_table(
    figures: Mapping[str, Mapping[str, str]], titles: Mapping[str, str], width: int
) -> Table:
    """Figures by name and column: side by side, or one column below the other.

    Args:
        figures: Words in each column, by the name of the figure.
        titles: Of the columns.
        width: Of the terminal; where the columns need more, each becomes a paragraph.
    """
    return _wide(figures, titles) if _fits(figures, titles, width) else _narrow(figures, titles)


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


def occurrences(times: Mapping[str, int]) -> str:
    """Names and how often each occurs, in one line."""
    return ", ".join(f"{name} (×{number})" for name, number in times.items())
