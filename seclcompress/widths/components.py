"""Principal component analysis of a layer's outputs, from their covariances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Components:
    """Principal components of a layer's outputs before the activation.

    Attributes:
        explained: The variance λ along each component, largest first; as many as channels.
        ratios: Each as a share of the sum, Σ = 1.
        distances: The distance of the outputs from themselves with the first k components only, for k
            from 0 to all: √(Σ of λ beyond the k-th), the root of the mean squared distance.
        for_90: The fewest components that explain 90 % of the variance.
        for_99: The fewest that explain 99 %.
    """

    explained: tuple[float, ...]
    ratios: tuple[float, ...]
    distances: tuple[float, ...]
    for_90: int
    for_99: int


def components(covariance: NDArray[np.float64]) -> Components | None:
    """Finds the principal components (K. Pearson, 1901) as eigenvalues of the covariances.

    They are the same as scikit-learn's `PCA` finds, except that that divides by one value less.

    Args:
        covariance: Mean products of deviations, shape (channels, channels).

    Returns:
        The components; None if nothing varies.
    """
    from scipy.linalg import eigvalsh

    values = np.maximum(eigvalsh(covariance)[::-1], 0.0)  # rounding makes zeros negative
    total = float(values.sum())
    if total <= 0:
        return None
    # Summed from the smallest on, so that the last distances are not lost beside the first.
    beyond = np.concatenate([np.cumsum(values[::-1])[::-1], [0.0]])
    return Components(
        explained=tuple(values.tolist()),
        ratios=tuple((values / total).tolist()),
        distances=tuple(np.sqrt(beyond).tolist()),
        for_90=fewest(values, 0.9),
        for_99=fewest(values, 0.99),
    )


def fewest(amounts: NDArray[np.float64], share: float) -> int:
    """The fewest of some amounts, largest first, that make a share of their sum.

    Args:
        amounts: Not negative, in falling order, not all zero.
        share: Between 0 and 1.
    """
    sums = np.cumsum(amounts)
    # As a share of the last sum, which is then exactly 1.
    return int(np.searchsorted(sums / sums[-1], share)) + 1
