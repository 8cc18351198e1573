"""The layers of a recovery as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from seclcompress.recover import LayerRecovery


def recovery_table(layers: Sequence[LayerRecovery]) -> Table:
    """Makes a table of the relative errors before and after, a row for each layer in running order."""
    table = Table(title="Error of each layer's outputs (100 % is that of answering their mean)")
    table.add_column("layer", overflow="fold")
    table.add_column("")
    for heading in ("before", "after"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in layers:
        kind = "new" if layer.rewritten else "kept"
        errors = (f"{100 * error:.1f} %" for error in (layer.before, layer.after))
        table.add_row(layer.name, kind, *errors)
    return table
