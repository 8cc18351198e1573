"""Mixtures of two distributions, fitted to the variances of a layer's channels by EM.

Channels that do not vary are left out: they are counted as dead, and a density of positive numbers has
no use for them. Expectation maximisation (A. P. Dempster, N. M. Laird and D. B. Rubin, 1977) begins
three times, with the values split at each quartile, and the likeliest end counts. Nothing is drawn at
random. Logarithms of densities are written out, as scipy.stats spends most of its time on checks there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

#: A mixture has four or five parameters; fewer channels than this would be described, not fitted.
FEWEST = 10
#: Where EM begins: the share of values that go to the lower distribution.
STARTS = (0.25, 0.5, 0.75)
_ITERATIONS = 2000
_TOLERANCE = 1e-9  # of the mean log-likelihood, from one iteration to the next
#: A distribution that has fewer values than this for itself, or that is narrower than this beside its
#: mean, has collapsed onto single values, where the likelihood has no bound.
_OWN_VALUES = 2.0
_NARROWEST = 1e-3


@dataclass(frozen=True)
class ExponentialNormal:
    """A mixture of an exponential and a normal distribution.

    Attributes:
        share: The share of the exponential, between 0 and 1.
        exponential_mean: Its mean.
        normal_mean: The normal distribution's mean.
        normal_std: Its standard deviation.
        log_likelihood: Of all values together.
    """

    share: float
    exponential_mean: float
    normal_mean: float
    normal_std: float
    log_likelihood: float

    def density(self, x: Values) -> Values:
        """The density at some values."""
        from scipy.stats import expon, norm

        low: Values = self.share * expon.pdf(x, scale=self.exponential_mean)
        high: Values = (1 - self.share) * norm.pdf(x, self.normal_mean, self.normal_std)
        return low + high


@dataclass(frozen=True)
class Gammas:
    """A mixture of two gamma distributions, that with the lower mean first.

    Attributes:
        share: The share of the first one, between 0 and 1.
        shapes: The two shapes k.
        scales: The two scales θ; a mean is k θ.
        log_likelihood: Of all values together.
    """

    share: float
    shapes: tuple[float, float]
    scales: tuple[float, float]
    log_likelihood: float

    def density(self, x: Values) -> Values:
        """The density at some values."""
        from scipy.stats import gamma

        first, second = (
            gamma.pdf(x, k, scale=scale) for k, scale in zip(self.shapes, self.scales, strict=True)
        )
        mixed: Values = self.share * first + (1 - self.share) * second
        return mixed


def exponential_and_normal(variances: Values) -> ExponentialNormal | None:
    """Fits a mixture of an exponential and a normal distribution.

    Args:
        variances: Of each channel; those that are 0 are left out.

    Returns:
        The mixture; None with fewer than ten values that are not 0, if all are the same, or if one of
        the two distributions collapses onto single values.
    """

    def fit(values: Values, share: Values) -> tuple[float, float, float] | None:
        low, high = share.sum(), (1 - share).sum()
        if high < _OWN_VALUES or low <= 0:
            return None
        mean = float(((1 - share) * values).sum() / high)
        variance = float(((1 - share) * (values - mean) ** 2).sum() / high)
        std = math.sqrt(variance)
        return (float((share * values).sum() / low), mean, std) if std > _NARROWEST else None

    def densities(values: Values, found: tuple[float, float, float]) -> tuple[Values, Values]:
        scale, mean, std = found
        normal = -0.5 * ((values - mean) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))
        return -values / scale - math.log(scale), normal

    best = _likeliest(variances, fit, densities)
    if best is None:
        return None
    scale, share, (low, mean, std), likelihood = best
    return ExponentialNormal(share, low * scale, mean * scale, std * scale, likelihood)


def two_gammas(variances: Values) -> Gammas | None:
    """Fits a mixture of two gamma distributions.

    The shapes are those of T. P. Minka, "Estimating a Gamma distribution", 2002: a closed form to begin
    with, then Newton's method on 1 / k.

    Args:
        variances: Of each channel; those that are 0 are left out.

    Returns:
        The mixture; None as in `exponential_and_normal`.
    """
    from scipy.special import gammaln

    def fit(values: Values, share: Values) -> tuple[float, float, float, float] | None:
        first, second = _gamma(values, share), _gamma(values, 1 - share)
        return None if first is None or second is None else (*first, *second)

    def densities(
        values: Values, found: tuple[float, float, float, float]
    ) -> tuple[Values, Values]:
        logarithms = np.log(values)
        first, second = (
            (k - 1) * logarithms - values / scale - k * math.log(scale) - float(gammaln(k))
            for k, scale in (found[:2], found[2:])
        )
        return first, second

    best = _likeliest(variances, fit, densities)
    if best is None:
        return None
    scale, share, (k, own, other_k, other), likelihood = best
    if k * own <= other_k * other:
        return Gammas(share, (k, other_k), (own * scale, other * scale), likelihood)
    return Gammas(1 - share, (other_k, k), (other * scale, own * scale), likelihood)


def _gamma(values: Values, weights: Values) -> tuple[float, float] | None:
    """The likeliest shape and scale of weighted values; None if they are too near to one value."""
    from scipy.special import digamma, zeta

    total = float(weights.sum())
    if total < _OWN_VALUES:
        return None
    mean = float((weights * values).sum() / total)
    gap = math.log(mean) - float((weights * np.log(values)).sum() / total)
    if gap <= _NARROWEST**2 / 2:  # for large k it is 1 / (2 k), and 1 / √k is the spread ÷ mean
        return None
    k = (3 - gap + math.sqrt((gap - 3) ** 2 + 24 * gap)) / (12 * gap)
    for _ in range(50):  # ψ′(k) is Hurwitz's ζ(2, k)
        slope = k**2 * (1 / k - float(zeta(2, k)))
        new = 1 / (1 / k + (math.log(k) - gap - float(digamma(k))) / slope)
        if not (math.isfinite(new) and new > 0):
            return None
        done = abs(new - k) <= 1e-10 * k
        k = new
        if done:
            break
    return k, mean / k


Found = TypeVar("Found", bound=tuple[float, ...])


def _likeliest(
    variances: Values,
    fit: Callable[[Values, Values], Found | None],
    log_densities: Callable[[Values, Found], tuple[Values, Values]],
) -> tuple[float, float, Found, float] | None:
    """Runs EM from each start.

    Args:
        variances: The values; those that are 0 are left out.
        fit: The likeliest parameters where each value belongs to the first distribution by so much.
        log_densities: The logarithms of both densities.

    Returns:
        What the values were divided by, the first distribution's share, the parameters for the divided
        values, and the log-likelihood of the values as they are.
    """
    values = np.sort(variances[variances > 0])
    if len(values) < FEWEST or values[0] == values[-1]:
        return None
    scale = float(values.mean())
    values = values / scale
    ends = []
    for start in STARTS:
        low = np.zeros(len(values))
        low[: max(1, round(start * len(values)))] = 1.0
        found = _maximised(values, low, fit, log_densities)
        if found is not None:
            ends.append(found)
    if not ends:
        return None
    share, parameters, likelihood = max(ends, key=lambda one: one[2])
    return scale, share, parameters, likelihood - len(values) * math.log(scale)


def _maximised(
    values: Values,
    belongs: Values,
    fit: Callable[[Values, Values], Found | None],
    log_densities: Callable[[Values, Found], tuple[Values, Values]],
) -> tuple[float, Found, float] | None:
    """EM from one start: share, parameters and log-likelihood; None if a distribution collapses."""
    before = -math.inf
    for number in range(1, _ITERATIONS + 1):
        share = float(belongs.mean())
        parameters = fit(values, belongs)
        if parameters is None:
            return None
        first, second = log_densities(values, parameters)
        with np.errstate(divide="ignore"):  # a share of 0 or 1 has a logarithm of −∞, as it should
            first, second = first + np.log(share), second + np.log1p(-share)
        whole = np.logaddexp(first, second)
        likelihood = float(whole.sum())
        if not math.isfinite(likelihood):
            return None
        if likelihood - before <= _TOLERANCE * len(values) or number == _ITERATIONS:
            return share, parameters, likelihood
        before, belongs = likelihood, np.exp(first - whole)
    raise AssertionError("the last iteration returns")
