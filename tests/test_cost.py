from __future__ import annotations

import pytest

from seclcompress import cost


def test_convolution_by_hand() -> None:
    assert cost.convolution_parameters(16, 32, (3, 3), 4, bias=True) == 32 * 4 * 9 + 32
    assert cost.convolution_mult_adds(16, 32, (3, 3), 4, 35) == 32 * 4 * 9 * 35
    large = 2**30 + 1  # its square cannot be represented in float64
    assert cost.convolution_parameters(large, large, (1,), 1, bias=False) == large**2


@pytest.mark.parametrize(
    ("dense", "fast", "best"), [(5, 5, "dense"), (5, 4, "fast"), (4, 5, "dense")]
)
def test_dense_wins_a_draw(dense: int, fast: int, best: str) -> None:
    layer = cost.LayerCost(1, {"dense": dense, "fast": fast})
    assert layer.cheapest == best
    assert layer.under(best) == min(dense, fast)
    assert (layer.under("dense"), layer.under("fast")) == (dense, fast)


@pytest.mark.parametrize("only", cost.EXECUTIONS)
def test_an_execution_that_a_layer_has_not_is_the_one_it_has(only: str) -> None:
    layer = cost.LayerCost(1, {only: 7})
    assert layer.cheapest == only
    assert [layer.under(execution) for execution in cost.EXECUTIONS] == [7, 7]
    both = cost.LayerCost(1, {"fast": 4, "dense": 4})
    assert both.cheapest == "fast"  # the first one wins a draw
