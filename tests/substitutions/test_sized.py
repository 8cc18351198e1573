"""The size of a family whose size is free."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seclcompress.substitutions.sized import (
    PlacedConfig,
    chosen_rank,
    largest_size,
    on_kernel,
    refuse_groups,
)


@given(
    ratio=st.decimals("0.01", "1", places=2),
    dense=st.integers(1, 5000),
    each=st.integers(1, 90),
    square=st.integers(0, 3),
    most=st.integers(1, 70),
)
def test_the_largest_that_is_allowed(
    ratio: Fraction, dense: int, each: int, square: int, most: int
) -> None:
    def parameters(size: int) -> int:
        return each * size + square * size**2

    found = largest_size(parameters, float(ratio), dense, most)
    allowed = [n for n in range(1, most + 1) if parameters(n) <= Fraction(ratio) * dense]
    assert found == max(allowed, default=1)


def test_a_ratio_means_what_was_typed() -> None:
    assert 0.29 * 100 < 29
    assert largest_size(lambda size: size, 0.29, 100, 100) == 29


@pytest.mark.parametrize(("rank", "expected"), [(0, 5), (3, 3), (8, 8), (99, 8)])
def test_a_rank_overrides_the_ratio_and_is_cut_to_the_full_one(rank: int, expected: int) -> None:
    config = PlacedConfig(rank=rank, ratio=0.5)
    assert chosen_rank(config, lambda size: size * 2, 20, 8) == expected


def test_what_is_structured() -> None:
    assert on_kernel(nn.Conv2d(4, 4, 3), "kernel")
    assert not on_kernel(nn.Conv2d(4, 4, 3), "pointwise")
    assert not on_kernel(nn.Conv2d(4, 4, 1), "kernel")
    grouped = nn.Conv2d(4, 4, 3, groups=2)
    assert "its 2 groups have no weights between them" in (refuse_groups(grouped, "kernel") or "")
    assert refuse_groups(grouped, "pointwise") is None
    assert refuse_groups(nn.Conv2d(4, 4, 3), "kernel") is None
