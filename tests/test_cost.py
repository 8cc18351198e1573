from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seclcompress import cost


def test_acdc_by_hand() -> None:
    assert cost.stack_mult_adds(32, 12) == 12 * (4 * 32 + 5 * 32 * 5)
    assert cost.stack_mult_adds(1, 3) == 12
    assert cost.stack_mult_adds(90, 2) == 2 * (360 + math.ceil(450 * math.log2(90)))
    assert cost.acdc_parameters(64, 12) == 1536


@given(power=st.integers(0, 40), depth=st.integers(1, 99))
def test_powers_of_two_are_not_rounded(power: int, depth: int) -> None:
    assert cost.stack_mult_adds(2**power, depth) == depth * 2**power * (4 + 5 * power)


def test_break_even_against_a_square_matrix() -> None:
    """docs/mathematics.md: below these lengths the stack costs more than N²."""
    for depth, length in {2: 70, 4: 163, 8: 374, 12: 603, 16: 842}.items():
        assert cost.stack_mult_adds(length - 1, depth) > (length - 1) ** 2
        assert cost.stack_mult_adds(length + 1, depth) < (length + 1) ** 2


def test_convolution_by_hand() -> None:
    assert cost.convolution_parameters(16, 32, (3, 3), 4, bias=True) == 32 * 4 * 9 + 32
    assert cost.convolution_mult_adds(16, 32, (3, 3), 4, (7, 5)) == 32 * 4 * 9 * 35
    large = 2**30 + 1  # its square is no floating-point number
    assert cost.convolution_parameters(large, large, (1,), 1, bias=False) == large**2


@pytest.mark.parametrize(
    ("dense", "fast", "best"), [(5, 5, "dense"), (5, 4, "fast"), (4, 5, "dense")]
)
def test_dense_wins_a_draw(dense: int, fast: int, best: str) -> None:
    layer = cost.LayerCost(1, dense, fast)
    assert layer.cheapest == best
    assert layer.mult_adds(best) == min(dense, fast)
