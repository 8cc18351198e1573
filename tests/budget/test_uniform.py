"""The best plan that gives all layers the same, beside what the program chooses."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from seclcompress.budget import Candidate, choose, uniform
from seclcompress.budget.uniform import described
from seclcompress.cost import LayerCost
from seclcompress.plan import LayerPlan
from seclcompress.substitutions import get


def candidate(family: str | None, depth: int, loss: float, size: int) -> Candidate:
    config = {} if family is None else get(family).config({}).model_dump(mode="json")
    if "depth" in config:
        config["depth"] = depth
    entry = LayerPlan.model_construct(
        name="one",
        substitution=family,
        config=config,
        execution="dense",
        cost=LayerCost(size, {"dense": size}),
    )
    return Candidate(entry, loss)


@st.composite
def layers(draw: st.DrawFn) -> list[list[Candidate]]:
    """Layers that each have some of six replacements, and that are 100 as they are."""
    share, size = st.floats(0.01, 0.99), st.integers(1, 99)
    every = [("separable", 0), *(("acdc", depth) for depth in range(1, 6))]
    found = []
    for _ in range(draw(st.integers(1, 4))):
        some = draw(st.lists(st.sampled_from(every), unique=True))
        here = [candidate(*one, draw(share), draw(size)) for one in some]
        found.append([candidate(None, 0, 0.0, 100), *here])
    return found


def key(one: Candidate) -> str:
    return f"{one.entry.substitution} {json.dumps(one.entry.config)}"


@given(layers(), st.integers(1, 400), st.integers(0, 50))
def test_it_is_the_best_of_all_that_are_the_same(
    every: list[list[Candidate]], most: int, outside: int
) -> None:
    beside = {"parameters": outside, "mult_adds": outside}
    found = uniform(every, {"parameters": most}, beside)
    possible = []
    for chosen in itertools.product(*every):
        new = {key(one) for one in chosen if one.entry.substitution}
        if len(new) != 1:
            continue
        (name,) = new
        stays = [
            one.entry.substitution is None and any(key(other) == name for other in layer)
            for one, layer in zip(chosen, every, strict=True)
        ]
        size = outside + sum(one.amount("parameters") for one in chosen)
        if not any(stays) and size <= most:
            possible.append(sum(one.penalty for one in chosen))
    assert (found is None) == (not possible)
    if found is not None:
        assert sum(one.penalty for one in found) == min(possible)
        best = choose(every, {"parameters": most}, beside)
        assert sum(one.penalty for one in best) <= min(possible) + 1e-4 * sum(possible) + 1e-9


def test_it_is_spelled_by_what_its_sizes_differ_in() -> None:
    deep = [candidate("acdc", 5, 0.5, 3), candidate(None, 0, 0.0, 9)]
    assert str(described(deep, 0.25)) == "acdc depth=5"
    assert str(described([candidate("separable", 0, 0.5, 3)], 0.5)) == "separable"
