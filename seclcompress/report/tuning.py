"""The trials of a study: a table, CSV, and two pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from seclcompress.report.png import drawn

#: What became of a trial: all its epochs; stopped early, as others were better; its numbers were no
#: longer finite, or the memory did not suffice; its process died several times; not at its end yet.
FINISHED, STOPPED, UNSUITABLE, FAILED, OPEN = "finished", "stopped", "unsuitable", "failed", "open"
_COLOURS = {FINISHED: "C0", STOPPED: "0.65", UNSUITABLE: "C3", FAILED: "C3", OPEN: "C1"}
#: The number of trials in a table; all are in the CSV.
SHOWN = 10


@dataclass(frozen=True)
class Trial:
    """One trial of a study.

    Attributes:
        number: From 0.
        state: One of the states above.
        values: The spellings of the tried values, by the names of the settings.
        curve: The accuracy in percent on the held-out images, by epoch.
        loss: The last epoch's loss on the held-out images; None before the first epoch.
        test_accuracy: The accuracy on the test images in percent; None of a trial that is not
            finished, and if there are no test images beside the held-out ones.
        seconds: The time of its epochs.
        reason: Why it is unsuitable or failed; empty otherwise.
    """

    number: int
    state: str
    values: Mapping[str, str]
    curve: Mapping[int, float] = field(default_factory=dict)
    loss: float | None = None
    test_accuracy: float | None = None
    seconds: float = 0.0
    reason: str = ""

    @property
    def epochs(self) -> int:
        """The epochs that it has done."""
        return max(self.curve, default=0)

    @property
    def accuracy(self) -> float | None:
        """The last epoch's accuracy on the held-out images; None before the first epoch."""
        return self.curve[self.epochs] if self.curve else None


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The trials, the best first: finished ones before others, then by accuracy, then by loss."""
    return sorted(trials, key=_rank)


def _rank(trial: Trial) -> tuple[bool, int, float, float, int]:
    accuracy = -1.0 if trial.accuracy is None else trial.accuracy
    loss = float("inf") if trial.loss is None else trial.loss
    return trial.state != FINISHED, -trial.epochs, -accuracy, loss, trial.number


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The best finished trial; None if none is finished."""
    first = ranked(trials)[:1]
    return first[0] if first and first[0].state == FINISHED else None


def trials_table(trials: Sequence[Trial], width: int) -> Table:
    """Makes a table of the best trials.

    Args:
        trials: All trials of a study.
        width: The width of the terminal in characters. If the columns need more, each trial becomes a
            paragraph.
    """
    best = ranked(trials)[:SHOWN]
    rows = [_cells(trial) for trial in best]
    titles = list(rows[0]) if rows else []
    widths = [max(len(title), *(len(row[title]) for row in rows)) for title in titles]
    if sum(widths) + 2 * len(widths) > width:
        return _paragraphs(rows)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for title in titles:
        table.add_column(title, justify="left" if title == "state" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row.values())
    return table


def _paragraphs(rows: Sequence[Mapping[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
    table.add_column("", overflow="fold")
    table.add_column("", justify="right", overflow="fold")
    for row in rows:
        (first, number), *rest = row.items()
        table.add_row(Text(f"{first} {number}", style="bold"), "")
        for title, cell in rest:
            table.add_row(f" {title}", cell)
    return table


def _cells(trial: Trial) -> dict[str, str]:
    accuracy = "–" if trial.accuracy is None else f"{trial.accuracy:.2f}"
    return {
        "trial": str(trial.number),
        "state": trial.state,
        "epochs": str(trial.epochs),
        "held out %": accuracy,
        **trial.values,
    }


def trials_csv(trials: Sequence[Trial]) -> str:
    """All trials as CSV, in the order of their numbers.

    Args:
        trials: All trials of a study.
    """
    names = list(dict.fromkeys(name for trial in trials for name in trial.values))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = ("validation_accuracy", "validation_loss", "test_accuracy", "seconds")
    writer.writerow(["trial", "state", "epochs", *figures, *names, "reason"])
    for trial in sorted(trials, key=lambda trial: trial.number):
        found = (trial.accuracy, trial.loss, trial.test_accuracy, round(trial.seconds, 3))
        values = [trial.values.get(name, "") for name in names]
        cells = ["" if figure is None else figure for figure in found]
        writer.writerow([trial.number, trial.state, trial.epochs, *cells, *values, trial.reason])
    return text.getvalue()


def importance_png(importance: Mapping[str, float], finished: int) -> bytes:
    """Plots how much of the differences between trials each setting explains.

    Args:
        importance: The shares of the settings, which add up to 1; empty if they cannot be told yet.
        finished: The number of finished trials that they come from.

    Returns:
        A PNG file.
    """
    with drawn((7, 1.4 + 0.35 * max(1, len(importance)))) as (figure, written):
        axes = figure.subplots()
        names = sorted(importance, key=lambda name: importance[name])
        shares = [100 * importance[name] for name in names]
        axes.barh(names, shares)
        for place, share in enumerate(shares):
            axes.text(share + 1, place, f"{share:.0f} %", va="center")
        if not importance:
            words = "too few finished trials to tell"
            axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)
            axes.set_yticks([])
        axes.set(
            xlim=(0, 110 if importance else 1), xticks=[0, 25, 50, 75, 100] if importance else []
        )
        axes.set_xlabel("share of the differences in accuracy (%)")
        axes.set_title(
            f"Importance of the settings (fANOVA, {finished} finished trials)", fontsize=10
        )
        axes.spines[["top", "right"]].set_visible(False)
    return written.getvalue()


def trials_png(trials: Sequence[Trial], log: Mapping[str, bool | None]) -> bytes:
    """Plots the trials: accuracy over the epochs, and over the values of each setting.

    Args:
        trials: All trials of a study.
        log: For each setting whether its axis is logarithmic; None for one of a few values.

    Returns:
        A PNG file.
    """
    panels = 1 + len(log)
    columns = 2 if panels == 4 else min(3, panels)
    rows = -(-panels // columns)
    best = best_of(trials)
    with drawn((4.2 * columns, 3.2 * rows)) as (figure, written):
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        _draw_curves(axes[0], trials, best)
        for panel, (name, scale) in zip(axes[1:], log.items(), strict=False):
            _draw_values(panel, trials, best, name, scale)
        for panel in axes:
            panel.spines[["top", "right"]].set_visible(False)
            panel.grid(alpha=0.3)
        for panel in axes[panels:]:
            panel.remove()
    return written.getvalue()


def _draw_curves(axes: Any, trials: Sequence[Trial], best: Trial | None) -> None:
    from matplotlib.ticker import MaxNLocator

    told = set()
    for trial in reversed(ranked(trials)):  # the best one comes last, above the others
        if not trial.curve:
            continue
        label = None if trial.state in told else trial.state
        told.add(trial.state)
        epochs = sorted(trial.curve)
        style = {"lw": 2.2, "color": "C2"} if trial is best else {"lw": 1, "alpha": 0.8}
        style = {"color": _COLOURS[trial.state], **style}
        label = f"best: trial {trial.number}" if trial is best else label
        curve = [trial.curve[epoch] for epoch in epochs]
        axes.plot(epochs, curve, marker="o", ms=2.5, label=label, **style)
    axes.set(xlabel="epoch", ylabel="accuracy on the held-out images (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if told:
        axes.legend(frameon=False, fontsize=8)


def _draw_values(
    axes: Any, trials: Sequence[Trial], best: Trial | None, name: str, log: bool | None
) -> None:
    seen = [trial for trial in reversed(ranked(trials)) if trial.curve and name in trial.values]
    named = list(dict.fromkeys(trial.values[name] for trial in seen))
    names = sorted(named, key=_by_number)
    place: Callable[[str], float] = float if log is not None else names.index
    for trial in seen:
        colour = "C2" if trial is best else _COLOURS[trial.state]
        size = 45 if trial is best else 18
        axes.scatter(place(trial.values[name]), trial.accuracy, color=colour, s=size)
    if log is None:
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, max(1, len(names)) - 0.5)
    elif log:
        axes.set_xscale("log")
    axes.set(xlabel=name, ylabel="last accuracy (%)")


def _by_number(word: str) -> tuple[bool, float, str]:
    """Numbers by their size, then words."""
    try:
        return False, float(word), word
    except ValueError:
        return True, 0.0, word
