"""Mixtures by EM: what data were made of comes back, and where no fit is possible there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from seclcompress.widths.mixtures import Values, exponential_and_normal, two_gammas


def exponential_normal_values(n: int, share: float, seed: int) -> Values:
    rng = np.random.default_rng(seed)
    low = round(share * n)
    return np.concatenate([rng.exponential(0.1, low), np.abs(rng.normal(2, 0.3, n - low))])


def gamma_values(n: int, share: float, seed: int) -> Values:
    rng = np.random.default_rng(seed)
    low = round(share * n)
    return np.concatenate([rng.gamma(1.5, 0.1, low), rng.gamma(20, 0.1, n - low)])


@settings(max_examples=25)
@given(share=st.floats(0.1, 0.9), seed=st.integers(0, 999), scale=st.sampled_from([1e-9, 1.0, 1e6]))
def test_exponential_and_normal_come_back(share: float, seed: int, scale: float) -> None:
    found = exponential_and_normal(scale * exponential_normal_values(2000, share, seed))
    assert found is not None
    assert found.share == pytest.approx(share, abs=0.02)
    assert found.exponential_mean == pytest.approx(0.1 * scale, rel=0.2)
    assert found.normal_mean == pytest.approx(2 * scale, rel=0.05)
    assert found.normal_std == pytest.approx(0.3 * scale, rel=0.15)


@settings(max_examples=25)
@given(share=st.floats(0.1, 0.9), seed=st.integers(0, 999), scale=st.sampled_from([1e-9, 1.0, 1e6]))
def test_two_gammas_come_back(share: float, seed: int, scale: float) -> None:
    found = two_gammas(scale * gamma_values(2000, share, seed))
    assert found is not None
    assert found.share == pytest.approx(share, abs=0.03)
    means = [k * each / scale for k, each in zip(found.shapes, found.scales, strict=True)]
    assert means == pytest.approx([0.15, 2.0], rel=0.15)
    assert found.shapes == pytest.approx([1.5, 20], rel=0.35)


def test_likelihoods_are_scipys_and_beat_the_truth() -> None:
    """The largest likelihood is at least that of the parameters which the values were drawn with."""
    values = exponential_normal_values(1000, 0.4, 0)
    found = exponential_and_normal(values)
    assert found is not None
    assert found.log_likelihood == pytest.approx(np.log(found.density(values)).sum())
    truth = 0.4 * stats.expon.pdf(values, scale=0.1) + 0.6 * stats.norm.pdf(values, 2, 0.3)
    assert found.log_likelihood >= np.log(truth).sum()
    values = gamma_values(1000, 0.4, 0)
    gammas = two_gammas(values)
    assert gammas is not None
    assert gammas.log_likelihood == pytest.approx(np.log(gammas.density(values)).sum())
    truth = 0.4 * stats.gamma.pdf(values, 1.5, scale=0.1)
    truth += 0.6 * stats.gamma.pdf(values, 20, scale=0.1)
    assert gammas.log_likelihood >= np.log(truth).sum()


@given(seed=st.integers(0, 99), order=st.randoms(use_true_random=False))
def test_nothing_is_drawn_and_the_order_does_not_matter(seed: int, order: object) -> None:
    values = exponential_normal_values(60, 0.3, seed)
    mixed = values.copy()
    order.shuffle(mixed)  # type: ignore[attr-defined]
    for fit in (exponential_and_normal, two_gammas):
        assert fit(values) == fit(mixed) == fit(np.append(mixed, [0.0, 0.0]))


@given(
    seed=st.integers(0, 9999),
    n=st.integers(0, 60),
    kind=st.sampled_from(["lognormal", "uniform", "two values", "dead", "huge range"]),
)
def test_any_variances_give_a_mixture_or_none(seed: int, n: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    values = {
        "lognormal": lambda: rng.lognormal(0, 3, n),
        "uniform": lambda: rng.uniform(0, 1, n),
        "two values": lambda: rng.choice([0.5, 2.0], n),
        "dead": lambda: np.zeros(n),
        "huge range": lambda: 10.0 ** rng.uniform(-30, 10, n),
    }[kind]()
    with np.errstate(all="raise", under="ignore"):
        mixed, gammas = exponential_and_normal(values), two_gammas(values)
    if n < 10 or kind == "dead":
        assert mixed is None
        assert gammas is None
    for found in (mixed, gammas):
        if found is not None:
            assert 0 <= found.share <= 1
            assert np.isfinite(found.log_likelihood)
            inside = np.linspace(values.min(), values.max(), 9)[1:]
            assert np.isfinite(found.density(inside)).all()
    if gammas is not None:
        first, second = (k * t for k, t in zip(gammas.shapes, gammas.scales, strict=True))
        assert 0 < first <= second


@pytest.mark.parametrize("values", [np.full(30, 0.7), np.r_[np.zeros(40), np.linspace(1, 2, 9)]])
def test_no_fit_where_values_are_equal_or_few(values: Values) -> None:
    assert exponential_and_normal(values) is None
    assert two_gammas(values) is None


def test_a_distribution_that_collapses_is_no_fit() -> None:
    """Two points have a likelihood without bound, which is nothing that could be reported."""
    assert two_gammas(np.repeat([1.0, 3.0], 10)) is None
