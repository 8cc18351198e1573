"""The integer program: of each layer's candidates one, so that the losses' sum is least.

With x(l, c) = 1 where layer l becomes candidate c:

    least   Σ loss(l, c) · x(l, c)
    so that Σ over c of x(l, c) = 1                          for every layer l
            Σ amount(l, c, q) · x(l, c) ≤ limit(q)           for every limited quantity q

This is the multiple-choice knapsack problem with one knapsack a quantity. HiGHS solves it (through
scipy) to the optimum. Among plans of the same loss, the one with the smallest share of the limits is
taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from seclcompress import extras
from seclcompress.budget.candidates import Candidate, worthwhile
from seclcompress.errors import PlanError
from seclcompress.settings.budget import Quantity

#: Losses that differ by less are equal.
_EQUAL = 1e-9


class NotReachableError(PlanError):
    """No plan meets the budget.

    Attributes:
        nearest: The candidates of the plan that misses it by the smallest share.
    """

    def __init__(self, words: str, nearest: Sequence[Candidate]) -> None:
        super().__init__(words)
        self.nearest = list(nearest)


def need_solver(task: str) -> None:
    """Checks that scipy is installed.

    Raises:
        UsageError: If it is not.
    """
    extras.need(task, "budget", "scipy")


def ends(layers: Sequence[Sequence[Candidate]], quantity: str) -> tuple[int, int]:
    """The least and the most of a quantity that plans for these layers have."""
    amounts = [[one.amount(quantity) for one in layer] for layer in layers]
    return sum(map(min, amounts)), sum(map(max, amounts))


def choose(
    layers: Sequence[Sequence[Candidate]], limits: Mapping[Quantity, int]
) -> list[Candidate]:
    """Chooses a candidate for each layer.

    Args:
        layers: The candidates of each layer, at least one.
        limits: The most of each limited quantity that all layers may have together. A limit may be
            negative, if other parts of the network have more than the budget alone.

    Returns:
        One candidate a layer, in their order.

    Raises:
        NotReachableError: If no choice meets all limits.
    """
    quantities = list(limits)
    left = [worthwhile(layer, quantities) for layer in layers]
    if not left:
        return []
    losses = [one.loss for layer in left for one in layer]
    amounts = np.array([[one.amount(q) for layer in left for one in layer] for q in quantities])
    most = np.array([limits[q] for q in quantities], dtype=float)
    scale = np.maximum(np.abs(most), 1.0)
    # As shares of the limits, so that numbers of very different size meet in one program.
    shares = amounts / scale[:, None]
    found = _solve(left, losses, shares, most / scale)
    if found is None:
        raise NotReachableError("No plan meets all limits.", _nearest(left, shares, most / scale))
    least = float(np.dot(found, losses))
    smaller = _solve(
        left,
        shares.sum(axis=0).tolist(),
        np.vstack([shares, losses]),
        np.append(most / scale, least + _EQUAL),
    )
    return _picked(left, found if smaller is None else smaller)


def _nearest(left: list[list[Candidate]], shares: np.ndarray, most: np.ndarray) -> list[Candidate]:
    """The choice whose worst excess over a limit, as a share of it, is least."""
    number = shares.shape[1]
    with_excess = np.hstack([shares, -np.ones((len(most), 1))])
    found = _solve(left, [0.0] * number + [1.0], with_excess, most, excess=True)
    assert found is not None
    return _picked(left, found)


def _solve(
    left: list[list[Candidate]],
    costs: Sequence[float],
    rows: np.ndarray,
    most: np.ndarray,
    *,
    excess: bool = False,
) -> np.ndarray | None:
    """Solves a program; 0 or 1 for each candidate, or None where nothing meets the limits.

    Args:
        left: The candidates of each layer.
        costs: What is made least, for each candidate (and for the excess).
        rows: The limited quantities, likewise.
        most: The limits.
        excess: Whether the last variable is not a candidate but any number of at least 0.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    number = sum(map(len, left))
    one_each = np.zeros((len(left), len(costs)))
    start = 0
    for place, layer in enumerate(left):
        one_each[place, start : start + len(layer)] = 1
        start += len(layer)
    whole = np.ones(len(costs))
    upper = np.ones(len(costs))
    if excess:
        whole[-1], upper[-1] = 0, np.inf
    constraints = [LinearConstraint(one_each, 1, 1), LinearConstraint(rows, -np.inf, most)]
    solved = milp(
        np.asarray(costs),
        integrality=whole,
        bounds=Bounds(0, upper),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    if solved.x is None:
        return None
    return np.rint(solved.x[:number])


def _picked(left: list[list[Candidate]], chosen: np.ndarray) -> list[Candidate]:
    flat = [one for layer in left for one in layer]
    return [one for one, taken in zip(flat, chosen, strict=True) if taken]
