"""The integer program: of each layer's candidates one, so that the penalties' sum is least.

With x(l, c) = 1 where layer l becomes candidate c:

    least   Σ penalty(l, c) · x(l, c)
    so that Σ over c of x(l, c) = 1                          for every layer l
            Σ amount(l, c, q) · x(l, c) ≤ limit(q)           for every limited quantity q

This is the multiple-choice knapsack problem with one knapsack a quantity. HiGHS solves it, through
scipy, to a hundred-thousandth of the sum. Layers with equal candidates (the same penalties and amounts)
share their variables, which then count layers; otherwise the solver would look at every order of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from seclcompress import extras
from seclcompress.budget.candidates import Candidate, worthwhile
from seclcompress.budget.native import no_output
from seclcompress.errors import PlanError
from seclcompress.settings.budget import Quantity

#: Sums of penalties that differ by less are equal: as near as HiGHS holds what it is told.
EQUAL = 1e-6
#: The share of the sum by which a better choice may be missed. An exact proof may take minutes.
_GAP = 1e-5
#: The base in which large amounts are written where they must be met to the last one. The solver takes
#: x = 1.000001 for 1, which is nothing in numbers of three digits, and a million in a number of twelve.
_BASE = 1000
_NOTHING: dict[int, int] = {}
_QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
#: What scipy.optimize.milp calls a program that nothing solves.
_INFEASIBLE = 2


class NotReachableError(PlanError):
    """No plan meets the budget.

    Attributes:
        nearest: The candidates of the plan whose worst excess over a limit, as a share of it, is least.
    """

    #: What a person can do about it.
    ADVICE = (
        "Allow more, name other --families, let more layers change (--stem, --head, --linear), or start "
        "from a narrower network."
    )

    def __init__(self, words: str, nearest: Sequence[Candidate]) -> None:
        super().__init__(words)
        self.nearest = list(nearest)


class _GaveUpError(PlanError):
    """The solver ended without an answer."""


def need_solver(task: str) -> None:
    """Checks that scipy is installed.

    Raises:
        UsageError: If it is not.
    """
    extras.need(task, "budget", "scipy")


def ends(layers: Sequence[Sequence[Candidate]], quantity: Quantity) -> tuple[int, int]:
    """The least and the most of a quantity that plans for these layers have."""
    amounts = [[one.amount(quantity) for one in layer] for layer in layers]
    return sum(map(min, amounts)), sum(map(max, amounts))


def choose(
    layers: Sequence[Sequence[Candidate]],
    limits: Mapping[Quantity, int],
    beside: Mapping[Quantity, int] | None = None,
) -> list[Candidate]:
    """Chooses a candidate for each layer.

    Of several choices whose penalties are equal (to `EQUAL`), the smallest is taken: the one with the
    least sum of shares of the limits, and of the most there is of what is not limited. Where layers
    have equal candidates, the earlier ones lose less. Limits hold to the last one.

    Args:
        layers: The candidates of each layer, at least one.
        limits: The most of each limited quantity that the network may have.
        beside: What of each quantity it has outside these layers; None for nothing.

    Returns:
        One candidate a layer, in their order.

    Raises:
        NotReachableError: If no choice meets all limits.
        PlanError: If the solver ends without a choice and without a proof that there is none.
    """
    outside = {**dict.fromkeys(_QUANTITIES, 0), **(beside or {})}
    whole = {q: limits.get(q, outside[q] + ends(layers, q)[1]) for q in _QUANTITIES}
    program = _Program.of(
        [worthwhile(layer, list(limits)) for layer in layers],
        most=[whole[q] - outside[q] for q in _QUANTITIES],
        units=[max(abs(whole[q]), 1) for q in _QUANTITIES],
    )
    found = program.within(program.penalties)
    if found is None:
        raise NotReachableError("No plan meets all limits.", program.picked(program.nearest()))
    least = float(found @ program.penalties)
    smaller = None
    with contextlib.suppress(_GaveUpError):  # what was found is as good
        smaller = program.within(program.shares.sum(axis=0), most_lost=least + EQUAL)
    return program.picked(found if smaller is None else smaller)


@dataclass(frozen=True)
class _Program:
    """The program of a network's layers. A column is a candidate of a class of layers.

    Attributes:
        classes: The layers' places in the network, by class.
        lists: The candidates by layer, in the order of the columns.
        penalties: Shape (columns,).
        amounts: Shape (quantities, columns).
        most: Shape (quantities,): the most of all layers together; negative where the rest of the
            network has more than it may.
        units: Shape (quantities,): the limits of the network, at least 1.
    """

    classes: list[list[int]]
    lists: list[list[Candidate]]
    penalties: NDArray[np.float64]
    amounts: NDArray[np.int64]
    most: NDArray[np.int64]
    units: NDArray[np.int64]

    @classmethod
    def of(
        cls, lists: list[list[Candidate]], most: Sequence[int], units: Sequence[int]
    ) -> _Program:
        """Makes the program of lists of candidates, by layer."""
        alike: dict[tuple[tuple[float, ...], ...], list[int]] = {}
        for place, layer in enumerate(lists):
            figures = tuple((one.penalty, *map(one.amount, _QUANTITIES)) for one in layer)
            alike.setdefault(figures, []).append(place)
        columns = [figures for layer in alike for figures in layer]
        return cls(
            list(alike.values()),
            lists,
            np.array([column[0] for column in columns], dtype=np.float64),
            np.array(
                [[column[1 + q] for column in columns] for q in range(len(_QUANTITIES))],
                dtype=np.int64,
            ),
            np.array(most, dtype=np.int64),
            np.array(units, dtype=np.int64),
        )

    @property
    def shares(self) -> NDArray[np.float64]:
        """The amounts as shares of the network's limits, so that numbers of very different size meet."""
        return self.amounts / self.units[:, None]

    def within(
        self, costs: NDArray[np.float64], *, most_lost: float = np.inf
    ) -> NDArray[np.int64] | None:
        """Makes a sum least within limits, which are kept as integers.

        Args:
            costs: What each column adds to the sum.
            most_lost: A limit of the penalties' sum.

        Returns:
            The number of layers in each column; None where nothing meets the limits.
        """
        rows = np.vstack([self.shares, self.penalties])
        limits = np.append((self.most + 0.5) / self.units, most_lost)
        found = self._solved(costs, rows, limits)
        if found is None or (self.amounts @ found <= self.most).all():
            return found
        if not self.classes:
            return None
        # It is over by less than the solver sees. Digit by digit it sees it, and takes longer.
        digits, limits = self._digits()
        carries = digits.shape[1] - len(costs)
        lost = np.append(self.penalties, np.zeros(carries))
        return self._solved(
            np.append(costs, np.zeros(carries)),
            np.vstack([digits, lost]),
            np.append(limits, most_lost),
            more=np.full(carries, len(self.lists) + 1.0),
        )

    def _digits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The limits as rows of small numbers: one a digit, with the carry to the next as a column.

        With a = a₁·B + a₀ and A = A₁·B + A₀, Σ a·x ≤ A holds if and only if there is a whole number
        c ≥ 0 with Σ a₀·x ≤ A₀ + B·c and Σ a₁·x + c ≤ A₁. The second is split likewise while a₁ is large.

        Returns:
            Rows of shape (digits, columns + carries), and their limits.
        """
        columns = self.amounts.shape[1]
        rows: list[tuple[NDArray[np.int64], dict[int, int], int]] = []
        carries = 0
        for amounts, limit in zip(self.amounts, self.most.tolist(), strict=True):
            rest, carried = amounts, _NOTHING
            while rest.max() >= _BASE:
                rows.append((rest % _BASE, {**carried, carries: -_BASE}, limit % _BASE))
                rest, limit, carried = rest // _BASE, limit // _BASE, {carries: 1}
                carries += 1
            rows.append((rest, carried, limit))
        digits = np.zeros((len(rows), columns + carries))
        for row, (own, carried, _) in zip(digits, rows, strict=True):
            row[:columns] = own
            for place, factor in carried.items():
                row[columns + place] = factor
        return digits, np.array([limit + 0.5 for *_, limit in rows])

    def nearest(self) -> NDArray[np.int64]:
        """The numbers of layers by column whose worst excess over a limit, as a share, is least."""
        costs = np.append(np.zeros_like(self.penalties), 1.0)
        with_excess = np.hstack([self.shares, -np.ones((len(self.most), 1))])
        limits = self.most / self.units
        found = self._solved(costs, with_excess, limits, more=np.array([np.inf]), whole=False)
        assert found is not None
        return found

    def picked(self, found: NDArray[np.int64]) -> list[Candidate]:
        """The candidates by layer; within a class the earlier layers lose less."""
        chosen: dict[int, Candidate] = {}
        start = 0
        for places in self.classes:
            width = len(self.lists[places[0]])
            times = found[start : start + width].tolist()
            columns = [column for column, n in enumerate(times) for _ in range(n)]
            for place, column in zip(places, columns, strict=True):
                chosen[place] = self.lists[place][column]
            start += width
        return [chosen[place] for place in range(len(self.lists))]

    def _solved(
        self,
        costs: NDArray[np.float64],
        rows: NDArray[np.float64],
        most: NDArray[np.float64],
        *,
        more: NDArray[np.float64] | None = None,
        whole: bool = True,
    ) -> NDArray[np.int64] | None:
        """Solves it.

        Args:
            costs: Shape (columns + further ones,): the sum that is made least.
            rows: Shape (limits, columns + further ones).
            most: The limits of the rows.
            more: The largest values of the further columns, which are at least 0.
            whole: Whether those are whole numbers.

        Returns:
            The number of layers in each column, without the further ones; None where nothing meets the
            limits.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        if not self.classes:
            return np.zeros(0, dtype=np.int64)
        together = np.zeros((len(self.classes), len(costs)))
        upper, integral = np.full(len(costs), np.inf), np.full(len(costs), int(whole))
        start = 0
        for number, places in enumerate(self.classes):
            own = slice(start, start + len(self.lists[places[0]]))
            together[number, own], upper[own], integral[own] = 1, len(places), 1
            start = own.stop
        if more is not None:
            upper[start:] = more
        sizes = [len(places) for places in self.classes]
        with no_output():
            solved = milp(
                costs,
                integrality=integral,
                bounds=Bounds(0, upper),
                constraints=[
                    LinearConstraint(together, sizes, sizes),
                    LinearConstraint(rows, -np.inf, most),
                ],
                # Without presolve, whose way back is where HiGHS repairs what it has found.
                options={"mip_rel_gap": _GAP, "presolve": False},
            )
        if solved.x is None and solved.status != _INFEASIBLE:
            raise _GaveUpError(
                "The solver ended without a plan, and without a proof that there is none "
                f"({solved.message}). Allow a little more, or name fewer --families."
            )
        return None if solved.x is None else np.rint(solved.x[:start]).astype(np.int64)
