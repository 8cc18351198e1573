"""How hard a price presses on gates, and how large a network may be at which time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seclcompress.graph import Group
from seclcompress.settings.slimming import PriceBy
from seclcompress.slim.choice import Figures, Lost

#: How often a network can be narrowed in a run. Each time takes about as long as a trace of it.
NARROWINGS = 100
_RISE = 1.15  # of a price that has to become higher, each time that it is looked at


@dataclass(frozen=True)
class Times:
    """When what happens in a run.

    Attributes:
        steps: Steps of the whole run.
        until: The share of them in which channels are lost.
    """

    steps: int
    until: float

    @property
    def losing(self) -> int:
        """The step, from 0, before which the last channels are lost; none later than the last step."""
        return min(max(1, round(self.steps * self.until)), self.steps - 1)

    def share(self, step: int) -> float:
        """The share of the steps in which channels are lost that a step comes after."""
        return 1.0 if step >= self.losing else step / self.losing

    @property
    def every(self) -> int:
        """Steps between two looks at the gates."""
        return max(1, self.losing // NARROWINGS)

    def starts_round(self, step: int, rounds: int) -> int | None:
        """The number of the round that starts before a step, from 1; None if none does.

        The first one starts with the run. There are at most as many as steps.

        Args:
            step: The step, from 0.
            rounds: The number of rounds.
        """
        starts = [math.floor(self.losing * number / rounds) for number in range(rounds)]
        found = [number for number, start in enumerate(starts, 1) if start == step]
        return found[-1] if found else None


def goal(start: float, share: float) -> float:
    """How many times too large a network may be after a share of the steps in which it loses channels.

    It falls from `start` to 1 by a cubic, fast at first: s_t = s_f + (s_i − s_f)(1 − t)³ (Zhu & Gupta,
    "To prune, or not to prune", 2017, equation 1).

    Args:
        start: How many times too large it is at the beginning.
        share: From 0 to 1.
    """
    return 1 + (start - 1) * (1 - min(share, 1.0)) ** 3


def first_price(lr: float, steps: int) -> float:
    """The price that closes a gate which nothing holds open, in as many steps at this rate."""
    return 1 / (lr * steps)


def next_price(price: float, has: float, may: float) -> float:
    """A price after a look at the network's size: higher if it is too large, lower if it is not.

    Args:
        price: The price so far.
        has: How many times too large the network is.
        may: How many times too large it may be by now.
    """
    return price * _RISE if has > may else price / _RISE


def prices(
    groups: Sequence[Group], measure: Callable[[Lost], Figures], by: PriceBy
) -> list[Tensor]:
    """Relative prices of the atoms of each group: tensors of shape (atoms,), in the mean 1.

    Args:
        groups: The groups.
        measure: What the network has without some atoms.
        by: What prices are in proportion to: what one atom of the group costs in the whole network.
    """
    if by == "channels":
        return [torch.ones(len(group.atoms)) for group in groups]
    whole = measure({})
    costs = []
    for group in groups:
        less = measure({group.name: [0]})
        saved = (
            whole.parameters - less.parameters
            if by == "parameters"
            else whole.mult_adds - less.mult_adds
        )
        costs.append(float(max(saved, 1)))
    atoms = [len(group.atoms) for group in groups]
    mean = sum(cost * count for cost, count in zip(costs, atoms, strict=True)) / sum(atoms)
    return [torch.full((count,), cost / mean) for cost, count in zip(costs, atoms, strict=True)]
