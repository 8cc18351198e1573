"""The integer program against every choice there is."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seclcompress.budget import Candidate, NotReachableError, choose, ends
from seclcompress.budget.candidates import worthwhile
from seclcompress.cost import LayerCost
from seclcompress.errors import PlanError
from seclcompress.plan import LayerPlan
from seclcompress.settings.budget import Quantity

QUANTITIES: tuple[Quantity, ...] = ("parameters", "mult_adds")


def candidate(loss: float, parameters: int, mult_adds: int, name: str = "layer") -> Candidate:
    cost = LayerCost(parameters, {"dense": mult_adds})
    entry = LayerPlan(
        name=name,
        layer="Conv2d",
        action="keep",
        reason="",
        calls=[],
        original=cost,
        separable=cost,
        cost=cost,
    )
    return Candidate(entry, loss)


#: Losses in hundredths: sums that differ do so by far more than the solver's tolerance.
CANDIDATES = st.builds(
    candidate,
    st.integers(0, 100).map(lambda hundredths: hundredths / 100),
    st.integers(0, 40),
    st.integers(0, 10**9) | st.integers(10**12, 10**12 + 9),
)
LAYERS = st.lists(st.lists(CANDIDATES, min_size=1, max_size=4), min_size=1, max_size=5)


def total(chosen: Sequence[Candidate], quantity: Quantity) -> int:
    return sum(one.amount(quantity) for one in chosen)


def loss(chosen: Sequence[Candidate]) -> float:
    return sum(one.penalty for one in chosen)


def shares(chosen: Sequence[Candidate], most: Mapping[Quantity, int]) -> float:
    return sum(total(chosen, quantity) / max(abs(most[quantity]), 1) for quantity in QUANTITIES)


@st.composite
def problems(
    draw: st.DrawFn,
) -> tuple[list[list[Candidate]], dict[Quantity, int]]:
    """Layers, some of them alike, and limits between nothing and more than everything."""
    layers = draw(LAYERS)
    layers += draw(st.lists(st.sampled_from(layers), max_size=2))
    some = [draw(st.sampled_from(layer)) for layer in layers]
    limited = draw(st.sets(st.sampled_from(QUANTITIES), min_size=1))
    limits = {}
    for quantity in sorted(limited):
        least, most = ends(layers, quantity)
        met = total(some, quantity)  # to the last one, or missed by one
        limits[quantity] = draw(st.integers(least - 3, most + 3) | st.sampled_from([met, met - 1]))
    return layers, limits


@given(problems())
@settings(max_examples=150)
def test_it_is_the_best_choice_of_all(
    problem: tuple[list[list[Candidate]], dict[Quantity, int]],
) -> None:
    layers, limits = problem
    possible = [
        choice
        for choice in itertools.product(*layers)
        if all(total(choice, quantity) <= most for quantity, most in limits.items())
    ]
    if not possible:
        with pytest.raises(NotReachableError):
            choose(layers, limits)
        return
    chosen = choose(layers, limits)
    assert all(one in layer for one, layer in zip(chosen, layers, strict=True))
    assert all(total(chosen, quantity) <= most for quantity, most in limits.items())
    least = min(map(loss, possible))
    assert loss(chosen) == pytest.approx(least, abs=1e-6)
    most = {q: limits.get(q, ends(layers, q)[1]) for q in QUANTITIES}
    smallest = min(shares(one, most) for one in possible if loss(one) < least + 1e-6)
    if len(limits) == len(QUANTITIES):
        assert shares(chosen, most) == pytest.approx(smallest, rel=1e-4, abs=1e-5)


@given(problems())
@settings(max_examples=50)
def test_the_nearest_has_the_least_excess_of_all(
    problem: tuple[list[list[Candidate]], dict[Quantity, int]],
) -> None:
    layers, _ = problem
    beside: dict[Quantity, int] = {"parameters": 50, "mult_adds": 10**6}
    limits: dict[Quantity, int] = {"parameters": 49, "mult_adds": 10**9}

    def excess(chosen: Sequence[Candidate]) -> float:
        return max((beside[q] + total(chosen, q)) / most - 1 for q, most in limits.items())

    with pytest.raises(NotReachableError) as caught:
        choose(layers, limits, beside)
    best = min(map(excess, itertools.product(*layers)))
    assert excess(caught.value.nearest) == pytest.approx(best, rel=1e-4, abs=1e-5)


def test_alike_layers_are_chosen_in_order() -> None:
    """The earlier ones lose less, so that equal plans are the same plan."""
    layers = [
        [candidate(0.0, 10, 0, name), candidate(0.5, 4, 0, name), candidate(0.6, 1, 0, name)]
        for name in "abcd"
    ]
    chosen = choose(layers, {"parameters": 19})
    assert [(one.entry.name, one.loss) for one in chosen] == [
        ("a", 0.0),
        ("b", 0.5),
        ("c", 0.5),
        ("d", 0.6),
    ]


def test_equal_losses_take_what_is_smaller_also_in_what_is_not_limited() -> None:
    layers = [[candidate(0.5, 10, 900), candidate(0.5, 10, 800), candidate(0.5, 12, 100)]]
    (chosen,) = choose(layers, {"parameters": 11})
    assert chosen is layers[0][1]


def test_large_limits_are_kept_to_the_last_one() -> None:
    """The solver's own tolerance would let 10¹² go over by a million."""
    layers = [[candidate(0.0, 1, 10**12 + 1), candidate(1.0, 1, 10**12)]]
    assert choose(layers, {"mult_adds": 10**12})[0].loss == 1.0
    assert choose(layers, {"mult_adds": 10**12 + 1})[0].loss == 0.0
    with pytest.raises(NotReachableError):
        choose(layers[:1], {"mult_adds": 10**12 - 1})


def test_what_stands_beside_the_layers_counts() -> None:
    layers = [[candidate(0.0, 10, 0), candidate(0.5, 4, 0)]]
    beside: dict[Quantity, int] = {"parameters": 90, "mult_adds": 0}
    assert choose(layers, {"parameters": 100}, beside)[0].loss == 0.0
    assert choose(layers, {"parameters": 99}, beside)[0].loss == 0.5
    with pytest.raises(NotReachableError):
        choose(layers, {"parameters": 93}, beside)


def test_no_layers_are_no_choice() -> None:
    assert choose([], {"parameters": 5}) == []
    with pytest.raises(NotReachableError):
        choose([], {"parameters": -1})


def test_a_solver_that_gives_up_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 4 of scipy's milp: numerical difficulties, for one. Nobody may be told to allow more."""
    gave_up = SimpleNamespace(x=None, status=4, message="difficulties")
    monkeypatch.setattr("scipy.optimize.milp", lambda *_, **__: gave_up)
    with pytest.raises(PlanError, match="without a proof that there is none") as caught:
        choose([[candidate(0.0, 1, 1)]], {"parameters": 5})
    assert not isinstance(caught.value, NotReachableError)


def test_beaten_candidates_are_left_out() -> None:
    kept, small, waste, fewer_mult_adds = (
        candidate(0.0, 100, 100),
        candidate(0.5, 10, 50),
        candidate(0.6, 11, 50),
        candidate(0.6, 11, 20),
    )
    every = [kept, small, waste, fewer_mult_adds, small]
    assert worthwhile(every, ["parameters", "mult_adds"]) == [kept, small, fewer_mult_adds]
    assert worthwhile(every, ["parameters"]) == [kept, small]
    assert worthwhile(every, ["mult_adds"]) == [kept, small, fewer_mult_adds]


def test_what_the_solver_prints_is_no_result() -> None:
    """C's own output is thrown away, however late C empties its buffers."""
    code = (
        "import ctypes, sys\n"
        "from seclcompress.budget.native import no_output\n"
        "libc = ctypes.CDLL(None)\n"
        "print('before')\n"
        "with no_output():\n"
        "    libc.puts(b'solver')\n"
        "print('after')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert (done.stdout, done.stderr) == ("before\nafter\n", "")
