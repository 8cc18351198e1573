"""The layers of a recovery as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from seclcompress.recover import LayerRecovery

_FIGURES = 28  # characters beside the longest name


def recovery_table(layers: Sequence[LayerRecovery], width: int) -> RenderableType:
    """Makes a table of the relative errors before and after, a row for each layer in running order.

    Args:
        layers: The layers.
        width: The width of the terminal in characters. Where the names do not fit, each layer becomes
            two lines.
    """
    title = Text("Error of each layer's outputs (100 % is that of answering their mean):")
    rows = [
        (
            layer.name,
            "new" if layer.rewritten else "kept",
            *(f"{100 * error:,.1f} %" for error in (layer.before, layer.after)),
        )
        for layer in layers
    ]
    if max((len(row[0]) for row in rows), default=0) + _FIGURES > width:
        lines = [
            Text(f"{name}\n  {kind}: {before} → {after}") for name, kind, before, after in rows
        ]
        return Group(title, *lines)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("layer", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in ("before", "after"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return Group(title, table)
