"""Plans held by the clock of the whole network: the search for the limit, and layers that turn dense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from listening import Listening
from network_clock import FAST, LAYERS, Clock, ways
from parameter_clock import install

from seclcompress import workflows
from seclcompress.budget import Budgeted, Candidate, NotReachableError
from seclcompress.budget.sensitivity import added
from seclcompress.plan import LayerPlan
from seclcompress.settings import PlanOptions
from seclcompress.workflows.within_time import NEAR, TRIES, Attempt, hold

ORIGINAL_SECONDS = 100.0


def ladder(predicted: list[float]) -> list[tuple[Candidate, ...]]:
    """Plans of one layer, which lose less the longer they take."""
    entry = LayerPlan.model_construct(name="layer")
    return [
        (Candidate(entry, ORIGINAL_SECONDS - seconds, round(1e9 * seconds), penalises=added),)
        for seconds in sorted(predicted)
    ]


def held(predicted: list[float], measured, limit: float) -> tuple[Attempt | None, list[Attempt]]:
    plans = ladder(predicted)

    def choose(seconds: float) -> tuple[Candidate, ...]:
        within = [one for one in plans if one[0].nanoseconds / 1e9 <= seconds]
        return within[-1] if within else plans[0]

    def attempt(chosen) -> Attempt:
        seconds = chosen[0].nanoseconds / 1e9
        return Attempt(chosen, chosen, seconds, measured(seconds), ORIGINAL_SECONDS)

    return hold(limit, choose, attempt)


SECONDS = st.floats(1, 99, allow_nan=False).map(lambda number: round(number, 3))
LADDERS = st.lists(SECONDS, min_size=1, max_size=20, unique=True)


@given(LADDERS, st.floats(0.05, 3.0), st.floats(2, 99))
def test_savings_in_proportion_are_found(
    predicted: list[float], share: float, limit: float
) -> None:
    """Where a whole network saves a share of what its layers do, the second plan holds the limit."""

    def measured(seconds: float) -> float:
        return ORIGINAL_SECONDS - share * (ORIGINAL_SECONDS - seconds)

    within, tried = held(predicted, measured, limit)
    assert len(tried) <= TRIES + 1
    fit = [seconds for seconds in predicted if measured(seconds) <= limit]
    assert (within is None) == (not fit)
    if within is not None:
        assert within.measured <= limit
        best = ORIGINAL_SECONDS - max(fit)
        assert within.chosen[0].loss == pytest.approx(best) or within.measured >= NEAR * limit
    assert len({id(one.asked) for one in tried}) == len(tried), "nothing is timed twice"


@given(LADDERS, st.lists(st.floats(0.5, 150), min_size=20, max_size=20), st.floats(2, 99))
def test_whatever_the_clock_says_the_limit_holds(
    predicted: list[float], noise: list[float], limit: float
) -> None:
    said = dict(zip(sorted(predicted), noise, strict=False))
    within, tried = held(predicted, said.__getitem__, limit)
    assert 1 <= len(tried) <= TRIES + 1
    if within is not None:
        assert within.measured <= limit
        assert within.penalty == min(one.penalty for one in tried if one.measured <= limit)
    else:
        assert said[min(predicted)] > limit, "the fastest was timed before that was said"


@pytest.fixture
def planned(own_cache: None, monkeypatch: pytest.MonkeyPatch):
    """Plans layers of 3 ms, which take 2 ms dense and 1 ms fast alone, in a network of 100 ms."""

    def run(clock: Clock, budget: str, told: Listening | None = None) -> Budgeted:
        install(clock, monkeypatch)
        return workflows.plan(
            "wrn10_1",
            budget,
            families=("acdc",),
            options=PlanOptions(only=LAYERS),
            runtime="onnxruntime",
            input_size=(3, 32, 32),
            observer=told or Listening(),
        )

    return run


#: Rewritten, each layer saves 2 ms; fast it costs 3 of them again.
DENSE_WINS = {(name, way): ms for name in LAYERS for way, ms in (("dense", -2.0), ("fast", 1.0))}


def test_layers_that_are_slower_fast_in_the_network_are_dense(planned) -> None:
    told = Listening()
    plan = planned(Clock(FAST, DENSE_WINS), "ms=96.5", told)
    assert plan.time is not None
    assert (plan.time.predicted, plan.time.measured) == (92.0, 94.0)
    rewritten = plan.plan.rewritten
    assert len(rewritten) == 3
    assert {(one.execution, one.alone) for one in rewritten} == {("dense", "fast")}
    assert "dense by the clock of the whole network, fast by its own" in rewritten[0].reason
    assert told.messages[-1].endswith("as it is takes 98.00, with every layer dense.")
    assert plan.count.columns["auto"].mult_adds == sum(
        layer.mult_adds for layer in plan.plan.layers
    ) + (
        plan.count.columns["original"].mult_adds
        - sum(layer.original.under("dense") for layer in plan.plan.layers)
    )


def test_layers_that_are_faster_fast_stay(planned) -> None:
    plan = planned(Clock(FAST, {(name, "fast"): -2.0 for name in LAYERS}), "ms=96.5")
    assert {found for found in ways(plan.plan).values() if found[0] != "original"} == {
        ("fast", None)
    }


def test_layers_do_not_turn_dense_beyond_another_limit(planned) -> None:
    fast = planned(Clock(FAST, {(name, "fast"): -2.0 for name in LAYERS}), "ms=96.5")
    most = fast.reachable["mult_adds"].least
    with pytest.raises(NotReachableError, match=f"meets mult-adds={most:,}, ms=96. The fastest"):
        planned(Clock(FAST, DENSE_WINS, spread=0.001), f"ms=96,mult-adds={most}")
