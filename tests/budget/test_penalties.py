"""How what layers lose makes one loss."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seclcompress.budget.candidates import Candidate
from seclcompress.budget.choice import choose
from seclcompress.budget.sensitivity import LEAST_KEPT, added, mean_loss, multiplied
from seclcompress.cost import LayerCost
from seclcompress.plan import LayerPlan
from seclcompress.workflows.candidates import penalty_of

SHARES = st.floats(0, 1)


@given(st.lists(SHARES, min_size=1, max_size=9))
def test_what_is_kept_multiplies(losses: list[float]) -> None:
    kept = math.prod(max(1 - loss, LEAST_KEPT) for loss in losses)
    assert sum(map(multiplied, losses)) == pytest.approx(-math.log(kept), abs=1e-9)
    mean = mean_loss(losses, multiplied)
    assert (1 - mean) ** len(losses) == pytest.approx(kept, rel=1e-6)
    most = 1 - LEAST_KEPT
    assert min(*losses, most) - 1e-9 <= mean <= min(max(losses), most) + 1e-9


def test_a_layer_that_loses_all_counts_as_keeping_a_little() -> None:
    assert mean_loss([1.0], multiplied) == pytest.approx(1 - LEAST_KEPT)
    assert mean_loss([1.0], added) == 1


@given(SHARES, SHARES)
def test_more_lost_is_never_less_penalty(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= multiplied(low) <= multiplied(high) < 7


def test_fisher_information_adds_up() -> None:
    assert penalty_of("fisher") is added
    assert all(penalty_of(source) is multiplied for source in ("shapes", "weights", "output"))
    assert mean_loss([0.5, 2.5], added) == 1.5
    assert mean_loss([], multiplied) == mean_loss([], added) == 0


def test_a_layer_is_not_paid_for_with_all_that_another_has() -> None:
    """Sums would keep the first layer, and leave the second a hundredth."""

    def layer(*sizes: tuple[float, int]) -> list[Candidate]:
        return [
            Candidate(
                LayerPlan.model_construct(
                    name="one", execution="dense", cost=LayerCost(size, {"dense": size})
                ),
                loss,
            )
            for loss, size in sizes
        ]

    layers = [layer((0.0, 10), (0.7, 2)), layer((0.8, 10), (0.99, 2))]
    chosen = choose(layers, {"parameters": 12})
    assert [one.loss for one in chosen] == [0.7, 0.8]
    assert sum(one.loss for one in chosen) > 0.0 + 0.99
