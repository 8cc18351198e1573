"""Monarch: two block-diagonal maps with shuffles behind each."""

from __future__ import annotations

import math
from typing import Any

import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from promises import FactoredPromises, SplitPromises
from torch import Tensor, nn

from seclcompress import substitutions
from seclcompress.errors import UsageError
from seclcompress.substitutions import CallSize, Site
from seclcompress.substitutions.shapes.butterflies import apply_factors

MONARCH = substitutions.get("monarch")


class TestMonarch(SplitPromises, FactoredPromises):
    family = substitutions.get("monarch")
    cases = ({}, {"blocks": 2, "rank": 1}, {"ratio": 0.8}, {"blocks": 1, "rank": 9})


def conv_of(matrix: Tensor) -> nn.Module:
    conv = nn.Conv1d(matrix.shape[1], matrix.shape[0], 1, bias=False, dtype=matrix.dtype)
    conv.weight = nn.Parameter(matrix[:, :, None].clone())
    return conv


def left(matrix: Tensor, **options: Any) -> float:
    conv = conv_of(matrix)
    built = MONARCH.build(conv, MONARCH.config(options))
    fit = built.fit(conv)
    assert fit is not None
    assert fit.of == "the pointwise weights"
    found = built.pointwise.make_weight().detach()
    norm = float(matrix.norm())
    assert fit.left == pytest.approx(float((found - matrix).norm()) / norm, abs=1e-12)
    return fit.left


def note(shape: tuple[int, int], **options: Any) -> str:
    site = Site(nn.Conv1d(*shape, 1), {CallSize((1,), (1,)): 1})
    config = MONARCH.config(options)
    cost = MONARCH.cost(site, config)
    weights = cost.parameters - shape[1]
    assert cost.mult_adds == {"dense": shape[0] * shape[1], "fast": weights}
    return f"{weights}: {cost.note}"


def test_it_is_the_papers_formula() -> None:
    """W = P L Pᵀ R with P the transposition of √n × √n places."""
    m, n = 3, 9
    conv = nn.Conv1d(n, n, 1, bias=False, dtype=torch.float64)
    built = MONARCH.build(conv, MONARCH.config({"rank": 1}))
    first, second = (blocks.detach() for blocks in built.pointwise.maps)
    assert first.shape == second.shape == (m, m, m)
    p = torch.zeros(n, n, dtype=torch.float64)
    for i in range(m):
        for j in range(m):
            p[i * m + j, j * m + i] = 1
    expected = p @ torch.block_diag(*second) @ p.mT @ torch.block_diag(*first)
    torch.testing.assert_close(built.pointwise.make_weight().detach(), expected)


@pytest.mark.parametrize("n", [16, 64, 256])
def test_known_monarch_matrices_are_found(n: int) -> None:
    """Hadamard's matrix, Kronecker products of two √n × √n matrices, and butterfly matrices."""
    torch.manual_seed(0)
    m = math.isqrt(n)
    hadamard = torch.from_numpy(scipy.linalg.hadamard(n)).double()
    product = torch.kron(*torch.randn(2, m, m, dtype=torch.float64))
    levels = torch.randn(n.bit_length() - 1, n, 2, dtype=torch.float64)
    butterfly = apply_factors(torch.eye(n, dtype=torch.float64), list(levels)).mT
    for matrix in (hadamard, product, butterfly):
        assert left(matrix, rank=1) < 1e-12
    assert left(torch.randn(n, n, dtype=torch.float64), rank=1) > 0.5


def test_the_sizes_that_a_ratio_gives() -> None:
    assert note((64, 64)) == "1024: 8×8 blocks of rank 1"
    assert note((256, 256)) == "16384: 8×8 blocks of rank 4"
    assert note((256, 256), ratio=0.125) == "8192: 16×16 blocks of rank 1"
    assert note((64, 128)) == "1920: 8×8 blocks of rank 1 and 2"
    assert note((3, 64)) == "67: 1×1 blocks of rank 1"
    assert note((7, 11), ratio=1.0) == "72: 1×1 blocks of rank 4"
    assert note((64, 64), blocks=2) == "1024: 2×2 blocks of rank 4"
    assert (
        note((16, 16), blocks=4) == "128: 4×4 blocks of rank 1"
    )  # fewer would leave blocks of zeros
    assert note((64, 64), rank=1) == "1024: 8×8 blocks of rank 1"
    assert note((16, 24), rank=2) == "160: 2×2 blocks of rank 2"
    assert note((16, 24), rank=99) == "640: 1×1 blocks of rank 16"


@given(
    g=st.integers(1, 5),
    sides=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 99),
)
def test_at_full_rank_every_matrix_is_held(g: int, sides: tuple[int, int], seed: int) -> None:
    torch.manual_seed(seed)
    matrix = torch.randn(g * sides[0], g * sides[1], dtype=torch.float64)
    assert left(matrix, blocks=g, rank=min(sides)) < 1e-12
    assert left(matrix, blocks=1, rank=g * min(sides)) < 1e-12


@given(
    g=st.integers(1, 4),
    sides=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    ratio=st.floats(0.05, 1),
    seed=st.integers(0, 99),
)
def test_the_start_is_the_nearest_and_finds_its_own_kind(
    g: int, sides: tuple[int, int], ratio: float, seed: int
) -> None:
    """What is left are the singular values beyond each block's rank, also where ranks differ."""
    torch.manual_seed(seed)
    matrix = torch.randn(g * sides[0], g * sides[1], dtype=torch.float64)
    options = {"blocks": g, "ratio": ratio}
    built = MONARCH.build(conv_of(matrix), MONARCH.config(options)).pointwise
    own = built.make_weight().detach()
    assert left(own, **options) < 1e-7
    width = built.maps[0].shape[1]
    beyond = 0.0
    for j in range(g):
        for i in range(g):
            block = matrix[j::g, i * sides[1] : (i + 1) * sides[1]]
            rank = sum((q * g + i) // width == j for q in range(width))
            assert width // g <= rank <= -(-width // g)
            beyond += float(torch.linalg.svdvals(block)[rank:].square().sum())
    assert left(matrix, **options) == pytest.approx(
        math.sqrt(beyond) / float(matrix.norm()), abs=1e-12
    )


def test_blocks_that_do_not_divide_are_refused_in_words() -> None:
    config = MONARCH.config({"blocks": 4})
    assert MONARCH.refuse(nn.Conv2d(8, 6, 3), config) == "4 blocks do not divide its 6 channels"
    assert MONARCH.refuse(nn.Conv2d(3, 8, 3), config) == "4 blocks do not divide its 3 channels"
    for options in ({"ratio": 0}, {"ratio": 1.1}, {"blocks": -1}, {"groups": 2}):
        with pytest.raises(UsageError, match="It takes: ratio, rank, blocks"):
            MONARCH.config(options)
