"""Low rank: two thin matrices, for the channels or for the whole kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from promises import ChainPromises, FactoredPromises, SplitPromises
from torch import nn

from seclcompress import substitutions
from seclcompress.substitutions import CallSize, Site

LOW_RANK = substitutions.get("low_rank")


class TestLowRank(SplitPromises, FactoredPromises):
    family = substitutions.get("low_rank")
    cases = ({}, {"rank": 3}, {"ratio": 1})


class TestLowRankOfTheKernel(ChainPromises):
    family = substitutions.get("low_rank")
    cases = ({"on": "kernel"}, {"on": "kernel", "rank": 99})


@pytest.mark.parametrize(
    ("options", "rank", "parameters", "fast"),
    [
        ({}, 5, 9 * 32 + 5 * 96, 16 * (9 * 32 + 5 * 96)),  # 32 · 64 ÷ 4 = 512 ≥ 5 · 96
        ({"rank": 7}, 7, 9 * 32 + 7 * 96, 16 * (9 * 32 + 7 * 96)),
        ({"rank": 33}, 32, 9 * 32 + 32 * 96, 16 * (9 * 32 + 32 * 96)),
        ({"ratio": 0.001}, 1, 9 * 32 + 96, 16 * (9 * 32 + 96)),
        ({"on": "kernel"}, 13, 13 * (288 + 64), 16 * 13 * (288 + 64)),  # 4608 ≥ 13 · 352
        ({"on": "kernel", "ratio": 1}, 52, 52 * 352, 16 * 52 * 352),
        ({"on": "kernel", "rank": 99}, 64, 64 * 352, 16 * 64 * 352),
    ],
)
def test_ranks_and_figures(options: dict[str, Any], rank: int, parameters: int, fast: int) -> None:
    conv = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False)
    site = Site(conv, {CallSize((8, 8), (4, 4)): 1})
    cost = LOW_RANK.cost(site, LOW_RANK.config(options))
    full = 64 if options.get("on") else 32
    assert cost.note == f"rank {rank} of {full}"
    assert cost.parameters == parameters
    dense = 9 * 32 * 64 if options.get("on") else 9 * 32 + 32 * 64
    assert cost.mult_adds == {"dense": 16 * dense, "fast": fast}


def test_on_the_kernel_of_a_1x1_layer_it_is_the_pointwise_map() -> None:
    for layer in (nn.Conv2d(8, 12, 1), nn.Linear(8, 12)):
        site = Site(layer, {CallSize((3, 3), (3, 3)): 1})
        both = [LOW_RANK.cost(site, LOW_RANK.config({"on": on})) for on in ("pointwise", "kernel")]
        assert both[0] == both[1]


@given(
    c_in=st.integers(1, 9),
    c_out=st.integers(1, 9),
    kernel=st.sampled_from([(1, 1), (3, 3), (2, 3), (1, 3)]),
    on=st.sampled_from(["pointwise", "kernel"]),
    rank=st.integers(1, 99),
    seed=st.integers(0, 99),
)
def test_the_start_is_the_nearest_there_is_and_exact_at_full_rank(
    c_in: int, c_out: int, kernel: tuple[int, int], on: str, rank: int, seed: int
) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(c_in, c_out, kernel, dtype=torch.float64)
    if on == "pointwise" and kernel != (1, 1):
        return  # the depthwise part can hold one filter for each channel only
    built = LOW_RANK.build(conv, LOW_RANK.config({"on": on, "rank": rank}))
    fit = built.fit(conv)
    values = torch.linalg.svdvals(conv.weight.detach().flatten(1))
    left = float((values[rank:].square().sum() / values.square().sum()).sqrt())
    assert fit.left == pytest.approx(left, abs=1e-12)
    assert fit.energy == pytest.approx(1 - left**2)
    found = built.to_dense().weight.detach().reshape(conv.weight.shape)
    distance = float((found - conv.weight.detach()).norm() / conv.weight.detach().norm())
    assert distance == pytest.approx(left, abs=1e-12)
    if rank >= min(c_in * kernel[0] * kernel[1], c_out):
        x = torch.randn(2, c_in, 5, 5, dtype=torch.float64)
        torch.testing.assert_close(built(x), conv(x))


def test_both_matrices_start_with_equal_norms() -> None:
    conv = nn.Conv2d(8, 12, 3)
    built = LOW_RANK.build(conv, LOW_RANK.config({"on": "kernel"}))
    built.fit(conv)
    first, second = (float(weight.detach().norm()) for weight in built.weights)
    assert first == pytest.approx(second)


def test_groups_are_refused_for_the_whole_kernel() -> None:
    conv = nn.Conv2d(8, 8, 3, groups=2)
    reason = LOW_RANK.refuse(conv, LOW_RANK.config({"on": "kernel"}))
    assert reason == "its 2 groups have no weights between them; on=pointwise can replace it"
    assert LOW_RANK.refuse(conv, LOW_RANK.config({})) is None
