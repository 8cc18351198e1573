"""CP: a sum of products of a vector of inputs, a filter, and a vector of outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from promises import ChainPromises
from torch import nn

from seclcompress import substitutions
from seclcompress.substitutions import CallSize, Site

CP = substitutions.get("cp")


class TestCp(ChainPromises):
    family = substitutions.get("cp")
    cases = ({}, {"rank": 20}, {"space": "separate"})
    kernels = (3,)
    linear = "it is two thin matrices, which low_rank makes"


@pytest.mark.parametrize(
    ("options", "rank", "full", "each"),
    [
        ({}, 43, 288, 32 + 9 + 64),  # 9 · 32 · 64 ÷ 4 = 4608 ≥ 43 · 105
        ({"rank": 10}, 10, 288, 105),
        ({"rank": 999}, 288, 288, 105),
        ({"ratio": 0.001}, 1, 288, 105),
        ({"space": "separate"}, 45, 288, 32 + 6 + 64),
    ],
)
def test_ranks_and_figures(options: dict[str, Any], rank: int, full: int, each: int) -> None:
    conv = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False)
    site = Site(conv, {CallSize((8, 8), (4, 4)): 1})
    cost = CP.cost(site, CP.config(options))
    assert cost.note == f"rank {rank} of {full}"
    assert cost.parameters == rank * each
    # With a filter of its own for each dimension, the first halves the rows alone.
    filters = 3 * 4 * 8 + 3 * 4 * 4 if "space" in options else 9 * 16
    fast = rank * (64 * 32 + filters + 16 * 64)
    assert cost.mult_adds == {"dense": 16 * 9 * 32 * 64, "fast": fast}


@given(
    c_in=st.integers(1, 6),
    c_out=st.integers(1, 6),
    kernel=st.sampled_from([(3, 3), (2, 3), (1, 3), (3, 1), (2, 2)]),
    space=st.sampled_from(["joined", "separate"]),
    seed=st.integers(0, 99),
)
def test_at_full_rank_the_start_is_exact(
    c_in: int, c_out: int, kernel: tuple[int, int], space: str, seed: int
) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(c_in, c_out, kernel, stride=(1, 2), padding=1, dtype=torch.float64)
    built = CP.build(conv, CP.config({"space": space, "rank": 10**6}))
    fit = built.fit(conv)
    assert fit.left < 1e-12
    x = torch.randn(2, c_in, 5, 6, dtype=torch.float64)
    for execution in ("dense", "fast"):
        built.execution = execution
        torch.testing.assert_close(built(x), conv(x))


@given(
    space=st.sampled_from(["joined", "separate"]),
    rank=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_more_components_hold_no_less_than_the_nearest_single_one(
    space: str, rank: int, seed: int
) -> None:
    """What is left is what was measured, and less than what the best matrix of rank 1 would leave."""
    torch.manual_seed(seed)
    conv = nn.Conv2d(5, 7, 3, dtype=torch.float64)
    built = CP.build(conv, CP.config({"space": space, "rank": rank}))
    fit = built.fit(conv)
    w = conv.weight.detach()
    found = built.to_dense().weight.detach()
    assert float((found - w).norm() / w.norm()) == pytest.approx(fit.left, abs=1e-12)
    values = torch.linalg.svdvals(w.flatten(1)).square()
    assert fit.left**2 >= float(values[rank:].sum() / values.sum()) - 1e-12
    # ALS finds a good component at least: any tensor has one of its largest entry alone.
    assert fit.energy >= float(w.square().max() / w.square().sum())


def test_a_weight_of_the_family_is_found_again() -> None:
    for space in ("joined", "separate"):
        torch.manual_seed(2)
        conv = nn.Conv2d(8, 12, 3, dtype=torch.float64)
        config = CP.config({"space": space, "rank": 2})
        conv.weight = nn.Parameter(CP.build(conv, config).make_weight().detach())
        assert CP.build(conv, config).fit(conv).left < 1e-2


def test_the_start_depends_on_no_seed_and_draws_no_numbers() -> None:
    conv = nn.Conv2d(4, 6, 3)
    found = []
    for seed in (1, 2):
        built = CP.build(conv, CP.config({"rank": 15}))
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        built.fit(conv)
        assert torch.equal(before, torch.get_rng_state())
        found.append(built.to_dense().weight.detach())
    assert torch.equal(*found)


def test_the_vectors_of_a_component_start_with_equal_norms() -> None:
    conv = nn.Conv2d(8, 12, 3)
    built = CP.build(conv, CP.config({"rank": 6}))
    built.fit(conv)
    first, filters, last = (weight.detach() for weight in built.weights)
    torch.testing.assert_close(first.flatten(1).norm(dim=1), filters.flatten(1).norm(dim=1))
    torch.testing.assert_close(first.flatten(1).norm(dim=1), last.flatten(1).norm(dim=0))


@pytest.mark.parametrize(
    ("conv", "words"),
    [
        (nn.Conv2d(8, 8, 1), "without a kernel above 1×1 it is two thin matrices, which low_rank"),
        (nn.Conv2d(8, 8, 3, groups=2), "its 2 groups have no weights between them"),
    ],
)
def test_refusals(conv: nn.Module, words: str) -> None:
    assert words in (CP.refuse(conv, CP.config({})) or "")
