"""Normality, principal components and singular values, against scipy, scikit-learn and torch."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from seclcompress import substitutions
from seclcompress.errors import SubstitutionError
from seclcompress.moments import Moments
from seclcompress.widths.components import components, fewest
from seclcompress.widths.normality import normality
from seclcompress.widths.singular import singular_values


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(2, 40),
    channels=st.integers(1, 12),
    rank=st.integers(1, 12),
    scale=st.sampled_from([1e-6, 1.0, 1e5]),
)
def test_components_are_scikit_learns(
    seed: int, rows: int, channels: int, rank: int, scale: float
) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    rng = np.random.default_rng(seed)
    values = scale * (rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, channels)) + 3)
    moments = Moments(channels, covariance=True)
    for some in np.array_split(values, 3):
        moments.add(torch.from_numpy(some), 1)
    found = components(moments.covariance.numpy())
    assert found is not None
    assert sum(found.ratios) == pytest.approx(1)
    assert found.explained == tuple(sorted(found.explained, reverse=True))
    theirs = decomposition.PCA(svd_solver="full").fit(values)
    count = min(rows, channels)
    np.testing.assert_allclose(
        found.ratios[:count], theirs.explained_variance_ratio_, rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(
        np.array(found.explained[:count]) * rows / (rows - 1),
        theirs.explained_variance_,
        rtol=1e-6,
        atol=1e-9 * scale**2 * channels * rank,
    )
    # The distances are those of the data from what the first k components leave of them.
    for k in range(count + 1):
        basis = theirs.components_[:k]
        centred = values - values.mean(0)
        left = centred - centred @ basis.T @ basis
        distance = np.sqrt(np.square(left).sum(1).mean())
        assert found.distances[k] == pytest.approx(distance, rel=1e-5, abs=1e-6 * scale * channels)
    assert len(found.distances) == channels + 1
    assert found.distances[-1] == 0


def test_no_components_where_nothing_varies() -> None:
    assert components(np.zeros((3, 3))) is None
    alone = components(np.array([[2.0]]))
    assert alone is not None
    assert (alone.ratios, alone.for_90, alone.for_99) == ((1.0,), 1, 1)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20), st.floats(0.01, 1))
def test_the_fewest_that_make_a_share(amounts: list[float], share: float) -> None:
    falling = np.array(sorted(amounts, reverse=True))
    count = fewest(falling, share)
    whole = falling.sum()
    assert falling[:count].sum() >= share * whole * (1 - 1e-12)
    assert falling[: count - 1].sum() < share * whole * (1 + 1e-12)


@pytest.mark.parametrize("width", [3, 40, 5000, 5001])
def test_normality_is_scipys_and_warns_of_nothing(width: int) -> None:
    values = np.random.default_rng(width).gamma(2, 1, width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w, p = stats.shapiro(values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, tiny = normality(values), normality(values * 1e-200)
    assert found is not None
    assert tiny is not None
    assert tiny.w == pytest.approx(found.w)
    assert found.w == pytest.approx(w)
    assert found.p == (pytest.approx(p) if width <= 5000 else None)


@pytest.mark.parametrize(
    "values", [np.ones(0), np.array([1.0, 2.0]), np.full(9, 0.3), np.zeros(5), 0.1 * np.ones(4)]
)
def test_no_normality_of_few_or_equal_variances(values: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert normality(values) is None


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(7, 5),
        nn.Conv1d(3, 8, 5),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Conv3d(2, 4, (1, 2, 3)),
    ],
)
def test_singular_values_are_those_of_the_whole_matrix(layer: nn.Module) -> None:
    weight = layer.weight.detach().double()  # type: ignore[union-attr, operator]
    groups = getattr(layer, "groups", 1)
    whole = torch.block_diag(*weight.reshape(groups, weight.shape[0] // groups, -1))
    found = singular_values(layer)
    assert found is not None
    expected = torch.linalg.svdvals(whole)
    torch.testing.assert_close(torch.tensor(found.values, dtype=torch.float64), expected)
    energies = expected.square()
    assert found.for_90 == int((energies.cumsum(0) < 0.9 * energies.sum()).sum()) + 1


def test_a_depthwise_filter_has_its_norm() -> None:
    layer = nn.Conv2d(5, 5, 3, groups=5)
    found = singular_values(layer)
    assert found is not None
    norms = layer.weight.detach().double().flatten(1).norm(dim=1).sort(descending=True).values
    assert found.values == pytest.approx(norms.tolist())


def test_a_transposed_convolution() -> None:
    layer = nn.ConvTranspose2d(4, 3, 2)
    found = singular_values(layer)
    assert found is not None
    expected = torch.linalg.svdvals(layer.weight.detach().double().flatten(1))
    assert found.values == pytest.approx(expected.tolist())


@pytest.mark.parametrize("name", substitutions.names())
@pytest.mark.parametrize("layer", [nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 16)])
def test_a_replacement_has_the_matrix_that_it_computes(name: str, layer: nn.Module) -> None:
    """The matrix is seen in the outputs for one unit at a time, whatever the family says of itself."""
    torch.manual_seed(0)
    family = substitutions.get(name)
    try:
        built = family.build(layer, family.config({})).eval()
    except SubstitutionError:
        assert isinstance(layer, nn.Linear)  # not every family takes one
        return
    found = singular_values(built)
    if not built.affine:
        assert found is None
        return
    assert found is not None
    if isinstance(layer, nn.Linear):
        units = torch.eye(16)
        matrix = (built(units) - built(torch.zeros(1, 16))).T
    else:  # a unit in the middle of 5 × 5 meets every place of the kernel
        units = torch.zeros(16, 16, 5, 5)
        units[range(16), range(16), 2, 2] = 1
        seen = (built(units) - built(torch.zeros(1, 16, 5, 5)))[:, :, 1:4, 1:4]
        matrix = seen.permute(1, 0, 2, 3).flatten(1)
    expected = torch.linalg.svdvals(matrix.detach().double())
    assert found.values[: len(expected)] == pytest.approx(expected.tolist(), abs=1e-4)


def test_no_singular_values_without_one_matrix_or_without_numbers() -> None:
    family = substitutions.get("bottleneck")
    built = family.build(nn.Conv2d(32, 32, 3, padding=1), family.config({}))
    assert singular_values(built) is None
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.zero_()
        assert singular_values(layer) is None
        layer.weight[0, 0] = float("nan")
        assert singular_values(layer) is None
