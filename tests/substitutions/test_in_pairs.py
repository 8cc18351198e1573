"""On a GPU W is made from the matrices of all layers at once. It is the same W."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seclcompress import substitutions
from seclcompress.stack import product_in_pairs
from seclcompress.substitutions.shapes.spectral import SpectralPointwise


@given(count=st.integers(1, 13), n=st.integers(1, 5))
def test_products_in_pairs_keep_the_order(count: int, n: int) -> None:
    matrices = torch.randn(count, n, n, dtype=torch.float64)
    expected = torch.eye(n, dtype=torch.float64)
    for matrix in matrices:
        expected = expected @ matrix
    torch.testing.assert_close(product_in_pairs(matrices), expected)


FORMS = [
    ("acdc", {}),
    ("acdc", {"depth": 1}),
    ("acdc", {"depth": 7, "extra_riffle": True}),
    ("acdc", {"depth": 3, "order": "transposed"}),
    ("acdc", {"depth": 3, "permutation": "random", "inverse_riffle": True}),
    ("acdc", {"depth": 4, "block": 2}),
    ("acdc", {"depth": 3, "block": 2, "order": "transposed", "extra_riffle": True}),
    ("afdf", {"depth": 3}),
    ("afdf", {"depth": 2, "block": 3}),
]


@pytest.mark.parametrize(("family", "options"), FORMS, ids=str)
@pytest.mark.parametrize("channels", [(12, 12), (12, 20), (20, 12)], ids=str)
def test_it_is_the_same_matrix_and_the_same_gradients(
    family: str, options: dict[str, object], channels: tuple[int, int], monkeypatch
) -> None:
    torch.manual_seed(0)
    chosen = substitutions.get(family)
    conv = nn.Conv2d(*channels, 1, dtype=torch.float64)
    pointwise = chosen.build(conv, chosen.config(options)).pointwise
    assert isinstance(pointwise, SpectralPointwise)
    found = []
    for in_pairs in (False, True):
        monkeypatch.setattr(type(pointwise), "multiplies_in_pairs", lambda _, on=in_pairs: on)
        weight = pointwise.make_weight()
        found.append([weight, *torch.autograd.grad(weight.square().sum(), pointwise.factors())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
