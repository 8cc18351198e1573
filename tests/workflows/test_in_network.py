"""Choices of single layers under the clock of the whole network. All times are given."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from listening import Listening
from network_clock import (
    FAST,
    FIRST,
    LAYERS,
    MIXED,
    SECOND,
    UNDONE_FIRST,
    Clock,
    entry,
    planned,
    ways,
)

from seclcompress import export
from seclcompress.plan import ORIGINAL, fit_plan
from seclcompress.workflows import in_network
from seclcompress.workflows.in_network import Group

pytestmark = pytest.mark.usefixtures("own_cache")


def test_what_slows_the_network_down_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(FAST, MIXED), Listening()
    plan = planned(clock, monkeypatch, told).plan
    assert ways(plan) == UNDONE_FIRST
    first = entry(plan, FIRST)
    assert first.reason.endswith("; dense by the clock of the whole network, fast by its own")
    assert (first.seconds, first.slower) == (
        {ORIGINAL: 0.003, "dense": 0.002, "fast": 0.001},
        False,
    )
    where = export.get("onnx").version()
    assert told.messages[-1] == (
        f"The whole network takes in {where} 100.00 ms as it is, 100.00 all dense, 101.00 with what "
        "each layer's own clock chose, and 97.00 as planned (1 of 3 such choices undone)."
    )
    assert "Measuring the whole network (1 of 4)" in told.work
    assert told.work[-1] == "Measuring the whole network beside the original"


def test_what_is_slower_than_the_original_alone_is_still_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = {ORIGINAL: 0.5, "dense": 2.0, "fast": 1.0}
    plan = planned(Clock(slow, MIXED), monkeypatch, objective="parameters").plan
    assert ways(plan) == UNDONE_FIRST
    assert entry(plan, FIRST).reason.endswith(
        "; dense by the clock of the whole network, fast by its own; slower in onnxruntime: dense takes "
        "2.00 ms, the original 0.50"
    )
    assert [entry(plan, name).slower for name in LAYERS] == [True] * 3


def test_a_layer_that_may_be_fast_or_stay_is_tried_in_all_ways(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dense is slower alone than the layer as it is, so for time that is the third way."""
    clock = Clock(
        {ORIGINAL: 1.0, "dense": 2.0, "fast": 0.5},
        {(FIRST, "fast"): 4.0, (FIRST, ORIGINAL): -3.0, (SECOND, "fast"): -2.0},
    )
    found = planned(clock, monkeypatch)
    assert ways(found.plan)[FIRST] == (ORIGINAL, "fast")
    first = entry(found.plan, FIRST)
    assert first.reason == "original by the clock of the whole network, fast by its own"
    assert (first.cost, first.on_demand) == (first.original, True)
    assert ways(found.plan)[SECOND] == ("fast", None)
    assert fit_plan(found.plan, found.skeleton, found.trace, "a plan") == found.plan


def test_a_layer_that_was_kept_is_rewritten_where_that_slows_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = {ORIGINAL: 1.0, "dense": 2.0, "fast": 3.0}
    clock = Clock(slow, {(FIRST, ORIGINAL): 4.0, (SECOND, ORIGINAL): -1.0})
    found = planned(clock, monkeypatch)
    plan = found.plan
    assert ways(plan)[FIRST] == ("dense", ORIGINAL)
    assert ways(plan)[SECOND] == (ORIGINAL, None)
    first = entry(plan, FIRST)
    assert first.reason.endswith("; dense by the clock of the whole network, original by its own")
    assert not first.slower
    assert fit_plan(plan, found.skeleton, found.trace, "a plan") == plan
    edited = [
        one.model_copy(update={"execution": "fast"}) if one.name == FIRST else one
        for one in plan.layers
    ]
    fitted = fit_plan(
        plan.model_copy(update={"layers": edited}), found.skeleton, found.trace, "a plan"
    )
    assert ways(fitted)[FIRST] == ("fast", None)


def test_that_nothing_is_faster_than_the_original_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    rewritten = {(name, way): 5.0 for name in LAYERS for way in ("dense", "fast")}
    told = Listening()
    planned(Clock(FAST, rewritten), monkeypatch, told, objective="parameters")
    said = "So nothing that was tried is faster than the network as it is."
    assert told.messages[-1].endswith(said)
    told = Listening()
    little = Clock(FAST, dict.fromkeys(rewritten, 1.5), spread=10.0)
    planned(little, monkeypatch, told, objective="parameters", batch=2)
    assert said not in told.messages[-1], "by less than chance makes"


def test_the_plan_that_wins_at_the_end_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the search has found may lose the last race."""
    told = Listening()
    plan = planned(Clock(FAST, MIXED, last=50.0), monkeypatch, told).plan
    assert ways(plan) == dict.fromkeys(LAYERS, ("dense", "fast"))
    assert "and 50.00 as planned (3 of 3 such choices undone)." in told.messages[-1]


def test_differences_within_the_noise_undo_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 21 rounds with a spread of 10 ms, 5.6 ms may be chance."""
    for batch, slower, undone in ((1, 4.0, None), (2, 7.0, "fast")):
        clock = Clock(FAST, {(FIRST, "fast"): slower}, spread=10.0)
        plan = planned(clock, monkeypatch, only=(FIRST,), batch=batch).plan
        assert entry(plan, FIRST).alone == undone


def test_the_search_starts_all_dense_where_that_is_faster() -> None:
    """Each choice alone costs less than chance; all together do not."""
    found = [Group((name,), ("fast", "dense")) for name in LAYERS]
    dense = ("dense",) * 3
    assert in_network.search(found, lambda other, now: other == dense) == dense
    assert in_network.search(found, lambda other, now: False) == ("fast",) * 3


several = st.lists(
    st.sampled_from([("fast", "dense"), ("fast", "dense", ORIGINAL), (ORIGINAL, "dense")]),
    min_size=1,
    max_size=5,
).map(lambda found: [Group((f"{i}a", f"{i}b"), each) for i, each in enumerate(found)])


@given(several, st.data())
def test_the_search_finds_the_best_where_groups_do_not_meet(found, data) -> None:
    costs = [{way: data.draw(st.integers(-5, 5)) for way in group.ways} for group in found]

    def seconds(chosen: tuple[str, ...]) -> int:
        return sum(cost[way] for cost, way in zip(costs, chosen, strict=True))

    best = in_network.search(found, lambda other, now: seconds(other) < seconds(now))
    assert seconds(best) == sum(min(cost.values()) for cost in costs)


@given(several, st.integers(0, 1 << 30))
def test_the_search_is_never_behind_its_two_starts(found, salt) -> None:
    def seconds(chosen: tuple[str, ...]) -> int:
        return zlib.crc32(repr((salt, chosen)).encode()) % 97

    asked = []

    def quicker(other: tuple[str, ...], now: tuple[str, ...]) -> bool:
        asked.append((other, now))
        return seconds(other) < seconds(now)

    best = in_network.search(found, quicker)
    own, dense = tuple(group.ways[0] for group in found), ("dense",) * len(found)
    assert seconds(best) <= min(seconds(own), seconds(dense))
    assert all(way in group.ways for group, way in zip(found, best, strict=True))
    assert len(asked) <= 1 + sum(len(group.ways) for group in found)
