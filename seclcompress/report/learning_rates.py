"""The learning rates of a range test: a table, a picture, what is suggested in words, the record."""

from __future__ import annotations

from typing import Literal

from rich.table import Table

from seclcompress.report.png import drawn
from seclcompress.report.records import Record
from seclcompress.train.finder import Readings
from seclcompress.train.suggestion import BELOW_LOWEST, Suggestion

_ROWS = 13


class RateRecord(Record):
    """`train --find-lr`, `distill --find-lr`: the loss at each learning rate, and what that suggests."""

    command: Literal["train", "distill"]
    find_lr: Literal[True] = True
    network: str
    lr: float
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    diverged: bool
    suggested_lr: float | None
    lowest_at: float | None
    rises_at: float | None
    picture: str | None


def rates_table(readings: Readings) -> Table:
    """Makes a table of some rates, evenly spread, with the loss at each; the last one is in it."""
    last = len(readings.rates) - 1
    places = sorted({round(last * row / (_ROWS - 1)) for row in range(_ROWS)})
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("learning rate", "loss", "smoothed"):
        table.add_column(title, justify="right", no_wrap=True)
    for place in places:
        table.add_row(
            f"{readings.rates[place]:.1e}",
            f"{readings.losses[place]:.4g}",
            f"{readings.smoothed[place]:.4g}",
        )
    return table


def rates_words(readings: Readings, found: Suggestion, lr: float) -> list[str]:
    """Says how the test ended and what it suggests, in sentences.

    Args:
        readings: The readings.
        found: The suggestion.
        lr: The learning rate of a run with these settings.
    """
    steps, last = len(readings.rates), readings.rates[-1]
    ended = (
        f"The loss diverged behind {last:.2g}, after {steps} steps."
        if readings.diverged
        else f"The loss did not diverge up to {last:.2g}, in {steps} steps."
    )
    if found.lr is None:
        rises = "" if found.rises_at is None else f" It rose from {found.rises_at:.2g} on."
        return [
            f"{ended} No rate lowered it by more than it varies between batches, as where a network is "
            f"trained already: nothing is suggested.{rises} Stay well below the rates that raise it."
        ]
    return [
        f"{ended} It was lowest at {found.lowest_at:.2g}.",
        f"Suggested: --lr {found.lr:g}, the rate of the lowest loss ÷ {BELOW_LOWEST} (these settings "
        f"have {lr:g}). It is a hint: {steps} steps tell which rates are too high, and little about "
        "what is best after many epochs.",
    ]


def rates_png(readings: Readings, found: Suggestion, lr: float, label: str) -> bytes:
    """Draws the loss over the learning rates as a PNG file; equal readings give equal files.

    Args:
        readings: The readings.
        found: The suggestion, drawn as a line.
        lr: The learning rate of a run with these settings, drawn as well.
        label: The network.
    """
    with drawn((7, 4.5)) as (figure, written):
        axes = figure.subplots()
        axes.plot(readings.rates, readings.losses, color="C0", alpha=0.35, label="loss of a step")
        axes.plot(readings.rates, readings.smoothed, color="C0", label="smoothed")
        if found.lr is not None:
            axes.axvline(found.lr, color="C1", label=f"suggested: {found.lr:g}")
        axes.axvline(lr, color="0.4", linestyle=":", label=f"these settings: {lr:g}")
        # A loss that diverges would press all others flat.
        low, high = min(readings.losses), max(readings.smoothed)
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low) or 1)
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.set_title(label, fontsize=10, parse_math=False)
        axes.legend(frameon=False, loc="upper left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    return written.getvalue()
