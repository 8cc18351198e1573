"""Moments that are added up batch by batch are numpy's of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seclcompress import moments
from seclcompress.moments import Moments


@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 9),
    batches=st.lists(st.integers(0, 7), min_size=1, max_size=6).filter(any),
    sizes=st.lists(st.integers(1, 4), max_size=3),
    offset=st.sampled_from([0.0, 3.0, -1e4]),
    covariance=st.booleans(),
)
def test_equal_numpys(
    seed: int, channels: int, batches: list[int], sizes: list[int], offset: float, covariance: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    whole = [torch.randn(n, channels, *sizes, generator=generator) + offset for n in batches]
    found = Moments(channels, covariance=covariance)
    for one in whole:
        found.add(one, -1 - len(sizes))
    rows = np.concatenate([one.movedim(1, -1).reshape(-1, channels).double() for one in whole])
    assert found.count == len(rows)
    assert found.finite
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.variances, rows.var(0), rtol=1e-7, atol=1e-12)
    if covariance:
        expected = np.cov(rows.T, bias=True).reshape(channels, channels)
        np.testing.assert_allclose(found.covariance, expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(found.least, rows.min(0))
    np.testing.assert_array_equal(found.most, rows.max(0))


@given(
    values=st.lists(
        st.lists(st.sampled_from([0.0, 0.1, -7.3]), min_size=3, max_size=3), min_size=1, max_size=9
    )
)
def test_dead_channels_exactly(values: list[list[float]]) -> None:
    found = Moments(3, covariance=False)
    for row in values:
        found.add(torch.tensor(row), -1)
    dead = [len(set(column)) == 1 for column in zip(*values, strict=True)]
    assert found.constant.tolist() == dead
    # 0.1 has no exact mean in float64 arithmetic; its variance is 0 all the same.
    assert (found.variances == 0).tolist() == dead


def test_large_batches_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(6, 4, 5, 5)
    whole, parts = Moments(4, covariance=True), Moments(4, covariance=True)
    whole.add(x, 1)
    monkeypatch.setattr(moments, "_AT_ONCE", 30)
    parts.add(x, 1)
    assert parts.count == whole.count == 150
    torch.testing.assert_close(parts.scatter, whole.scatter, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("covariance", [False, True])
def test_what_is_not_finite_is_told(wrong: float, covariance: bool) -> None:
    found = Moments(2, covariance=covariance)
    assert not found.finite  # nothing was seen
    found.add(torch.zeros(3, 2), 1)
    assert found.finite
    found.add(torch.tensor([[1.0, wrong]]), 1)
    found.add(torch.zeros(3, 2), 1)
    assert not found.finite


def test_half_precision_does_not_round_the_sums() -> None:
    x = torch.full((3000, 1), 1.0, dtype=torch.bfloat16)
    found = Moments(1, covariance=False)
    found.add(x, 1)
    found.add(torch.zeros(1000, 1, dtype=torch.bfloat16), 1)
    assert found.mean.item() == 0.75
    assert found.variances.item() == pytest.approx(0.1875, abs=1e-15)
