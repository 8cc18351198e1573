"""Tucker-2: a small core between two thin matrices."""

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

TUCKER = substitutions.get("tucker")


class TestTucker(SplitPromises, FactoredPromises):
    family = substitutions.get("tucker")
    cases = ({}, {"rank": 3}, {"ratio": 1})


class TestTuckerOfTheKernel(ChainPromises):
    family = substitutions.get("tucker")
    cases = ({"on": "kernel"}, {"on": "kernel", "rank": 99})


@pytest.mark.parametrize(
    ("options", "ranks", "weights"),
    [
        ({}, (5, 5), 5 * 32 + 25 + 5 * 64),  # 505 ≤ 32 · 64 ÷ 4 = 512
        ({"rank": 4}, (4, 4), 4 * 32 + 16 + 4 * 64),
        ({"rank": 99}, (32, 32), 32 * 32 + 32 * 32 + 32 * 64),  # 64 outputs of rank 32 at most
        ({"ratio": 0.001}, (1, 1), 32 + 1 + 64),
        ({"on": "kernel"}, (12, 24), 12 * 32 + 9 * 12 * 24 + 24 * 64),  # of 4608
        ({"on": "kernel", "rank": 40}, (32, 40), 32 * 32 + 9 * 32 * 40 + 40 * 64),
        ({"on": "kernel", "rank": 99}, (32, 64), 32 * 32 + 9 * 32 * 64 + 64 * 64),
    ],
)
def test_ranks_and_figures(options: dict[str, Any], ranks: tuple[int, int], weights: int) -> None:
    conv = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False)
    site = Site(conv, {CallSize((8, 8), (4, 4)): 1})
    cost = TUCKER.cost(site, TUCKER.config(options))
    assert cost.note == f"ranks {ranks[0]} and {ranks[1]} of 32 and 64"
    if options.get("on"):
        assert cost.parameters == weights
        first = 32 * ranks[0]  # runs at the input's size
        assert cost.mult_adds["fast"] == 64 * first + 16 * (weights - first)
    else:
        assert cost.parameters == 9 * 32 + weights
        assert cost.mult_adds["fast"] == 16 * (9 * 32 + weights)


@given(
    c_in=st.integers(1, 40),
    c_out=st.integers(1, 40),
    ratio=st.floats(0.05, 1),
    on=st.sampled_from(["pointwise", "kernel"]),
)
def test_the_ratio_is_kept_and_both_sides_get_the_same_share(
    c_in: int, c_out: int, ratio: float, on: str
) -> None:
    conv = nn.Conv2d(c_in, c_out, 3, bias=False)
    cost = TUCKER.cost(Site(conv), TUCKER.config({"on": on, "ratio": ratio}))
    words = cost.note.split()
    into, out = int(words[1]), int(words[3])
    weights, dense = cost.parameters, 9 * c_in * c_out
    if on == "pointwise":
        weights, dense = weights - 9 * c_in, c_in * c_out
        assert into == out
    elif c_in <= 9 * c_out and c_out <= 9 * c_in:  # else one side cannot use its share
        assert abs(into / c_in - out / c_out) <= 1 / min(c_in, c_out)
    assert weights <= ratio * dense or (into, out) == (1, 1)


@given(
    c_in=st.integers(1, 9),
    c_out=st.integers(1, 9),
    kernel=st.sampled_from([(1, 1), (3, 3), (2, 3)]),
    rank=st.integers(1, 99),
    seed=st.integers(0, 99),
)
def test_the_start(c_in: int, c_out: int, kernel: tuple[int, int], rank: int, seed: int) -> None:
    """It is at least as near as the truncation of every side alone allows, and exact at full rank."""
    torch.manual_seed(seed)
    conv = nn.Conv2d(c_in, c_out, kernel, dtype=torch.float64)
    built = TUCKER.build(conv, TUCKER.config({"on": "kernel", "rank": rank}))
    fit = built.fit(conv)
    w = conv.weight.detach()
    lost = []
    for side in (0, 1):
        values = torch.linalg.svdvals(w.movedim(side, 0).flatten(1)).square()
        lost.append(float(values[rank:].sum() / values.sum()))
    # The HOSVD loses at most the sum of what its sides lose, and no fit less than one of them.
    assert max(lost) - 1e-12 <= fit.left**2 <= sum(lost) + 1e-12
    found = built.to_dense().weight.detach()
    assert float((found - w).norm() / w.norm()) == pytest.approx(fit.left, abs=1e-12)
    if rank >= max(c_in, c_out):
        x = torch.randn(2, c_in, 5, 5, dtype=torch.float64)
        torch.testing.assert_close(built(x), conv(x))


def test_the_pointwise_start_is_the_nearest_there_is() -> None:
    conv = nn.Conv1d(12, 8, 1, dtype=torch.float64)
    fit = TUCKER.build(conv, TUCKER.config({"rank": 3})).fit(conv)
    values = torch.linalg.svdvals(conv.weight.detach()[:, :, 0]).square()
    assert fit.left**2 == pytest.approx(float(values[3:].sum() / values.sum()))


def test_a_weight_of_the_family_is_found_again_and_its_parts_have_equal_norms() -> None:
    torch.manual_seed(0)
    options = {"on": "kernel", "rank": 4}
    conv = nn.Conv2d(8, 12, 3, dtype=torch.float64)
    other = TUCKER.build(conv, TUCKER.config(options))
    conv.weight = nn.Parameter(other.make_weight().detach())
    built = TUCKER.build(conv, TUCKER.config(options))
    assert built.fit(conv).left < 1e-12
    norms = [float(weight.detach().norm()) for weight in built.weights]
    assert norms == pytest.approx([norms[0]] * 3)


def test_tensorly_has_its_own_backend_again() -> None:
    import tensorly

    before = tensorly.get_backend()
    conv = nn.Conv2d(8, 12, 3)
    TUCKER.build(conv, TUCKER.config({"on": "kernel"})).fit(conv)
    assert tensorly.get_backend() == before == "numpy"


def test_groups_are_refused_for_the_whole_kernel() -> None:
    conv = nn.Conv2d(8, 8, 3, groups=2)
    reason = TUCKER.refuse(conv, TUCKER.config({"on": "kernel"}))
    assert reason == "its 2 groups have no weights between them; on=pointwise can replace it"
    assert TUCKER.refuse(conv, TUCKER.config({})) is None
