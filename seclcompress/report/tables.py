"""Parts of tables that several subjects share: column titles, and tables for any terminal width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from seclcompress import substitutions
from seclcompress.cost import EXECUTIONS
from seclcompress.plan import Plan
from seclcompress.wording import milliseconds

#: Said below a table of times that cannot be compared.
UNSTEADY = (
    "Times varied by more than half while this was measured, as they do where other work runs "
    "meanwhile: they are not compared. Run it again on a quiet machine."
)


def column_titles(families: Sequence[str]) -> dict[str, str]:
    """The columns that a report shows, with their titles.

    Executions have columns of their own only if there are at least two of them; a single execution would
    repeat the column of the chosen one.

    Args:
        families: The names of the families that layers are rewritten as, the main one first; empty for a
            network that stays as it is.

    Returns:
        Titles by column name, in the order of the table.
    """
    known = [substitutions.get(name) for name in families]
    titles = [family.title or family.name for family in known] or [""]
    title = titles[0] if len(titles) == 1 else "mixed"
    there = {execution for family in known for execution in family.executions}
    ways = [execution for execution in EXECUTIONS if execution in there]
    found = {"original": "original", "separable": "plain separable"}
    if len(ways) < 2:
        return found | {"auto": title or "as planned"}
    return found | {way: f"{title} {way}" for way in ways} | {"auto": f"{title} chosen"}


def clock_notes(plan: Plan) -> list[str]:
    """What the clock has found of layers that were timed as they are and rewritten; empty for none.

    Args:
        plan: The plan.
    """
    times = [layer.before_and_after or (0.0, 0.0) for layer in plan.timed]
    if not times:
        return []
    before, after = (milliseconds(sum(column)) for column in zip(*times, strict=True))
    notes = [
        f"{len(times)} {plan.kind} timed one by one in {plan.timed_in}: {before} ms as they are, "
        f"{after} ms as planned."
    ]
    own = [layer for layer in plan.timed if layer.alone is None]
    kept = sum(layer.action == "keep" for layer in own)
    slower = sum(layer.slower for layer in own)
    undone = len(plan.timed) - len(own)
    if kept:
        notes.append(f"{kept} of them kept, because they would be slower there (--objective time).")
    if slower:
        notes.append(
            f"{slower} of them rewritten, though slower there; --objective time keeps them."
        )
    if undone:
        notes.append(f"{undone} of them as the whole network is faster, and not as they are alone.")
    return notes


def figures_table(
    figures: Mapping[str, Mapping[str, str]], titles: Mapping[str, str], width: int
) -> Table:
    """Makes a table of figures with the columns side by side, or one below the other.

    Args:
        figures: For each name of a figure, its text in each column.
        titles: The titles of the columns, in their order.
        width: The width of the terminal in characters. If the columns need more, each becomes a
            paragraph.
    """
    return _wide(figures, titles) if _fits(figures, titles, width) else _narrow(figures, titles)


def _fits(figures: Mapping[str, Mapping[str, str]], titles: Mapping[str, str], width: int) -> bool:
    """Whether the wide table fits into the terminal."""
    names = max(map(len, figures))
    columns = [
        max(*(len(row[c]) for row in figures.values()), *map(len, titles[c].split()))
        for c in titles
    ]
    return names + sum(columns) + 2 * len(columns) <= width


def _wide(figures: Mapping[str, Mapping[str, str]], titles: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("", no_wrap=True)
    for column in titles:
        # Headings of two lines leave room for eleven digits per column in 80 characters.
        title = titles[column].replace(" ", "\n")
        table.add_column(title, justify="right", vertical="bottom", no_wrap=True)
    for name, row in figures.items():
        table.add_row(name, *[row[column] for column in titles])
    return table


def _narrow(figures: Mapping[str, Mapping[str, str]], titles: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
    table.add_column("")
    table.add_column("", justify="right")
    for column in titles:
        table.add_row(Text(titles[column], style="bold"), "")
        for name, row in figures.items():
            table.add_row(f" {name.strip()}", row[column])
    return table


def occurrences(times: Mapping[str, int]) -> str:
    """Lists names with their numbers of occurrences in one line."""
    return ", ".join(f"{name} (×{number})" for name, number in times.items())
