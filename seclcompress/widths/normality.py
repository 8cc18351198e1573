"""Whether the variances of a layer's channels look like a sample of a normal distribution."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: The Shapiro–Wilk test needs so many values.
FEWEST = 3
#: With more values than this, scipy's p is not accurate.
MOST = 5000


@dataclass(frozen=True)
class Normality:
    """The result of a Shapiro–Wilk test.

    Attributes:
        w: The statistic, at most 1; the nearer to 1, the more normal.
        p: The probability of a smaller one under a normal distribution; None above 5,000 channels,
            where it is not known accurately.
    """

    w: float
    p: float | None


def normality(variances: NDArray[np.float64]) -> Normality | None:
    """Tests variances for normality (S. S. Shapiro and M. B. Wilk, 1965; `scipy.stats.shapiro`).

    Args:
        variances: Of each channel, shape (channels,).

    Returns:
        The result; None with fewer than three channels, or if all variances are the same.
    """
    if len(variances) < FEWEST:
        return None
    mean, spread = float(variances.mean()), float(np.ptp(variances))
    # Below this the differences are rounding, and scipy's statistic is noise.
    if spread <= 1e-12 * abs(mean):
        return None
    from scipy.stats import shapiro

    # The statistic does not depend on the scale; tiny variances would underflow when they are squared.
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "scipy.stats.shapiro: For N > 5000"
        )  # p, which is left out
        w, p = shapiro(variances / mean)
    return Normality(float(w), float(p) if len(variances) <= MOST else None)
