"""What the readings of a learning-rate range test suggest. Pure functions of rates and losses."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: The suggestion is the rate of the lowest loss divided by this: "one order of magnitude lower", from
#: fastai's course; it is its `SuggestionMethod.minimum`.
BELOW_LOWEST = 10
#: The share of the readings, from the lowest rate on, that say what the loss is without training.
_BEGINNING = 0.1
_FEWEST = 3


class Smoothing:
    """An exponential moving average of losses that is not drawn to 0 by its start.

    Args:
        weight: The weight of what came before. At 0.9 it lags about nine steps behind; fastai has 0.98,
            which suits tests of many more steps.
    """

    def __init__(self, weight: float = 0.9) -> None:
        self._weight, self._sum, self._count = weight, 0.0, 0

    def __call__(self, loss: float) -> float:
        """Adds a loss; returns the average."""
        self._count += 1
        self._sum = self._weight * self._sum + (1 - self._weight) * loss
        return self._sum / (1 - self._weight**self._count)


@dataclass(frozen=True)
class Suggestion:
    """What a range test suggests: a hint, not a measurement of what trains best.

    Attributes:
        lr: The suggested learning rate, with two significant digits: that of the lowest smoothed loss,
            divided by 10. None if no rate lowered the loss by more than it varies between batches.
        lowest_at: The rate of the lowest smoothed loss; None as `lr`.
        rises_at: The rate from which on the smoothed loss is higher than at the beginning, by more than
            twice what it varies; None if it is not at the end.
    """

    lr: float | None
    lowest_at: float | None
    rises_at: float | None


def suggest(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float]
) -> Suggestion:
    """Reads a suggestion off a range test.

    The beginning is the first tenth of the readings, at rates that change next to nothing: its mean is
    the loss without training, and its standard deviation what losses vary between batches.

    Args:
        rates: The rates, rising.
        losses: The loss at each.
        smoothed: The same, smoothed.
    """
    begun = max(_FEWEST, math.ceil(_BEGINNING * len(rates)))
    if len(rates) < 2 * begun:
        return Suggestion(None, None, rates[-1] if rates else None)
    before, varies = statistics.fmean(losses[:begun]), statistics.stdev(losses[:begun])
    rises_at = None
    for rate, loss in zip(reversed(rates), reversed(smoothed), strict=True):
        if loss <= before + 2 * varies:
            break
        rises_at = rate
    places = range(begun, len(rates))
    lowest = min(places, key=smoothed.__getitem__)
    if smoothed[lowest] >= before - varies:
        return Suggestion(None, None, rises_at)
    suggested = float(f"{rates[lowest] / BELOW_LOWEST:.1e}")
    return Suggestion(suggested, rates[lowest], rises_at)
