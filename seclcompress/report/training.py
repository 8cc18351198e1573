"""The settings and the results of a training run: two tables and a plot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from seclcompress.report.png import drawn
from seclcompress.settings.training import TrainingSettings, in_pairs
from seclcompress.train.record import best_of, chosen_by, has_best

#: What people read for the names of accuracies from before a run.
BEFORE = {"teacher": "teacher", "before": "student before"}


def settings_shown(
    settings: TrainingSettings, width: int, leave_out: Collection[str] = ()
) -> RenderableType:
    """The settings of a run that are not the defaults as a table, and how many others there are.

    The table has as many columns as fit into the terminal, at most three.

    Args:
        settings: The settings of the run.
        width: The width of the terminal in characters.
        leave_out: Names of settings that this run does not use.
    """
    used = {name: value for name, value in settings if name not in leave_out}
    defaults = dict(TrainingSettings())
    pairs = [(name, _shown(value)) for name, value in used.items() if value != defaults[name]]
    usual = len(used) - len(pairs)
    if not pairs:
        return Text(f"Settings: all {usual} have their defaults (--help).")
    others = f"{usual} other settings have their defaults (--help)."
    if usual < 2:
        others = "The other one has its default (--help)." if usual else ""
    return Group(_table(pairs, width), Text(others))


def _table(pairs: Sequence[tuple[str, str]], width: int) -> Table:
    columns = next(n for n in (3, 2, 1) if n == 1 or _needed(pairs, n) <= width)
    rows = -(-len(pairs) // columns)
    table = Table.grid(padding=(0, 2))
    for _ in range(columns):
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
    for row in range(rows):
        cells: list[str] = []
        for column in range(columns):
            place = column * rows + row
            cells += pairs[place] if place < len(pairs) else ("", "")
        table.add_row(*cells)
    return table


def _needed(pairs: Sequence[tuple[str, str]], columns: int) -> int:
    """The width of a table with `columns` pairs of name and value side by side."""
    rows = -(-len(pairs) // columns)
    parts = [pairs[start : start + rows] for start in range(0, len(pairs), rows)]
    names = sum(max(len(name) for name, _ in part) for part in parts)
    return names + sum(max(len(value) for _, value in part) for part in parts) + 4 * columns


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_shown, value)) or "–"
    if isinstance(value, dict):
        return in_pairs(value) or "–"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "–" if value is None else str(value)


def training_table(history: Sequence[Mapping[str, Any]], before: Mapping[str, float]) -> Table:
    """Makes a table of a run's results: accuracies before and after, the best epoch, the time.

    All are on the test images but the one that says otherwise.

    Args:
        history: One record per epoch, as in metrics.jsonl.
        before: Accuracies in percent from before the run, by the names in `BEFORE`.
    """
    last = history[-1]
    seconds = sum(record["seconds"] for record in history)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    for name, accuracy in before.items():
        table.add_row(BEFORE[name], f"{accuracy:.2f} %")
    table.add_row("student after" if before else "after", f"{last['accuracy']:.2f} %")
    if has_best(history):
        best, part = best_of(history), "validation" if _validated(history) else "test"
        table.add_row(
            f"best epoch ({best['epoch']}; chosen on the {part} images)",
            f"{best['accuracy']:.2f} %",
        )
        if _validated(history):
            table.add_row("  on the validation images", f"{best['validation_accuracy']:.2f} %")
    epochs = "1 epoch" if len(history) == 1 else f"{len(history)} epochs"
    table.add_row(f"time for {epochs}", f"{duration(seconds)}")
    return table


def _validated(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether validation images were held out."""
    return "validation_accuracy" in history[-1]


def duration(seconds: float) -> str:
    """A time in words: `2 h 01 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def curves_png(history: Sequence[Mapping[str, Any]], before: Mapping[str, float]) -> bytes:
    """Plots a run's loss and accuracy.

    Args:
        history: One record per epoch, as in metrics.jsonl.
        before: Accuracies in percent from before the run, by the names in `BEFORE`, drawn as
            horizontal lines.

    Returns:
        A PNG file.
    """
    from matplotlib.ticker import MaxNLocator

    with drawn((9, 3.6)) as (figure, written):
        left, right = figure.subplots(1, 2)
        epochs = [record["epoch"] for record in history]
        marker = "o" if len(epochs) < 30 else ""
        label = "training, all losses" if before else "training"
        left.plot(epochs, [r["train_loss"] for r in history], marker=marker, ms=3, label=label)
        part = "validation" if _validated(history) else "test"
        left.plot(epochs, [r[f"{part}_loss"] for r in history], marker=marker, ms=3, label=part)
        left.set(xlabel="epoch", ylabel="loss")
        left.legend(frameon=False)
        judged = [chosen_by(record) for record in history]
        right.plot(epochs, judged, marker=marker, ms=3, label=f"{part} images")
        if _validated(history):
            tests = [
                (record["epoch"], record["accuracy"]) for record in history if "accuracy" in record
            ]
            right.plot(*zip(*tests, strict=True), "D", ms=4, label="test images")
        for (name, accuracy), style in zip(before.items(), ("--", ":"), strict=False):
            right.axhline(accuracy, color="0.4", linestyle=style, linewidth=1, label=BEFORE[name])
        right.set(xlabel="epoch", ylabel="accuracy (%)")
        right.legend(frameon=False, loc="best")
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.3)
    return written.getvalue()
