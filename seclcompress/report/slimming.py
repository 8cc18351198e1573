"""A network that lost channels: the groups' widths, the totals, and the sentence to repeat."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from seclcompress.report.records import SlimRecord
from seclcompress.slim import Slimmed, Width

_NARROW = 60  # characters; a narrower terminal gets fewer columns
_MOST = 24  # rows; the middle of a longer table is left out


def slim_tables(done: Slimmed, width: int) -> RenderableType:
    """Makes the tables of a narrowed network.

    Args:
        done: The network.
        width: The width of the terminal in characters.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("channels made by", overflow="fold")
    if width >= _NARROW:
        table.add_column("layers", justify="right")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    if width >= _NARROW:
        table.add_column("kept", justify="right")
    for one in _shown(done.groups):
        table.add_row(*_row(one, width))
    return Group(table, Text(slim_words(done)))


def _shown(groups: tuple[Width, ...]) -> list[Width | None]:
    if len(groups) <= _MOST:
        return [*groups]
    half = _MOST // 2
    return [*groups[:half], None, *groups[-half:]]


def _row(one: Width | None, width: int) -> list[str]:
    if one is None:
        return ["…"] + ["…"] * (4 if width >= _NARROW else 2)
    share = f"{100 * one.after / one.before:.0f} %"
    cells = [one.name, str(one.layers), f"{one.before:,}", f"{one.after:,}", share]
    return cells if width >= _NARROW else [cells[0], *cells[2:4]]


def slim_words(done: Slimmed) -> str:
    """What became of the network, in sentences."""
    before, after = done.before, done.after
    narrowed = sum(one.after < one.before for one in done.groups)
    fixed = {0: "", 1: " One layer keeps its width."}.get(
        len(done.fixed), f" {len(done.fixed)} layers keep their width."
    )
    return (
        f"{done.label}: {before.parameters:,} parameters became {after.parameters:,} "
        f"({before.parameters / after.parameters:.2f} times smaller), {before.mult_adds:,} Mult-Adds "
        f"{after.mult_adds:,} ({before.mult_adds / after.mult_adds:.2f} times fewer). {narrowed} of "
        f"{len(done.groups)} groups of channels were narrowed.{fixed} The smallest it could have is "
        f"{done.smallest.parameters:,} parameters.{_rewritten_words(done)}{_accuracy_words(done)}"
    )


def _rewritten_words(done: Slimmed) -> str:
    if done.rewritten is None:
        return ""
    return (
        f" Rewritten as {done.options.rewritten_as} it has {done.rewritten.parameters:,} parameters and "
        f"{done.rewritten.mult_adds:,} Mult-Adds."
    )


def _accuracy_words(done: Slimmed) -> str:
    before, after = done.accuracy_before, done.accuracy_after
    number = len(done.epochs)
    trained = (
        f"after {number} epoch{'' if number == 1 else 's'}" if number else "after, not trained yet"
    )
    found = [] if before is None else [f"{before:.2f} % before"]
    found += [] if after is None else [f"{after:.2f} % {trained}"]
    return f" Accuracy: {', '.join(found)}." if found else ""


def slim_record(done: Slimmed) -> SlimRecord:
    """A narrowed network as a record."""
    return SlimRecord(
        network=done.label,
        output_dir=None if done.output_dir is None else str(done.output_dir),
        budget=done.budget,
        options=done.options,
        before=done.before,
        after=done.after,
        smallest=done.smallest,
        groups=list(done.groups),
        fixed=done.fixed,
        accuracy_before=done.accuracy_before,
        accuracy_after=done.accuracy_after,
        rewritten=done.rewritten,
        epochs=[dict(line) for line in done.epochs],
    )
