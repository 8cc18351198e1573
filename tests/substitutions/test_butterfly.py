"""Butterfly matrices: factors that mix pairs of blocks."""

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
from seclcompress.substitutions.shapes.butterflies import apply_factors, factorise
from seclcompress.transforms import expand, fold

BUTTERFLY = substitutions.get("butterfly")


class TestButterfly(SplitPromises, FactoredPromises):
    family = substitutions.get("butterfly")
    cases = ({}, {"block": 3})


def random_factors(block: int, count: int) -> list[Tensor]:
    length = block * 2**count
    return [torch.randn(length, 2 * block, dtype=torch.float64) for _ in range(count)]


def product(factors: list[Tensor]) -> Tensor:
    unit = torch.eye(factors[0].shape[0], dtype=torch.float64)
    return apply_factors(unit, factors).mT


def conv_of(matrix: Tensor) -> nn.Module:
    conv = nn.Conv1d(matrix.shape[1], matrix.shape[0], 1, bias=False, dtype=matrix.dtype)
    conv.weight = nn.Parameter(matrix[:, :, None].clone())
    return conv


def left(matrix: Tensor, **options: Any) -> float:
    conv = conv_of(matrix)
    built = BUTTERFLY.build(conv, BUTTERFLY.config(options))
    fit = built.fit(conv)
    assert fit is not None
    tolerance = 1e-12 if matrix.dtype == torch.float64 else 1e-6
    distance = float((built.pointwise.make_weight().detach() - matrix).norm())
    assert fit.left == pytest.approx(distance / float(matrix.norm()), abs=tolerance)
    return fit.left


@pytest.mark.parametrize(("block", "count"), [(1, 1), (1, 4), (3, 3), (2, 2), (5, 1)])
def test_a_factor_mixes_the_blocks_that_differ_in_one_digit(block: int, count: int) -> None:
    torch.manual_seed(0)
    factors = random_factors(block, count)
    length, expected = block * 2**count, torch.eye(block * 2**count, dtype=torch.float64)
    for level, factor in enumerate(factors):
        whole = torch.zeros(length, length, dtype=torch.float64)
        firsts = [number for number in range(2**count) if not number >> level & 1]
        for pair, first in enumerate(firsts):
            both = [
                number * block + entry
                for number in (first, first + 2**level)
                for entry in range(block)
            ]
            rows = factor[pair * 2 * block : (pair + 1) * 2 * block]
            whole[torch.tensor(both)[:, None], torch.tensor(both)] = rows
        expected = whole @ expected
    torch.testing.assert_close(product(factors), expected)


@pytest.mark.parametrize("shape", [(16, 16), (6, 10), (24, 5)])
def test_oblong_maps_are_expanded_and_folded(shape: tuple[int, int]) -> None:
    built = BUTTERFLY.build(nn.Conv1d(*shape, 1, bias=False).double(), BUTTERFLY.config({}))
    matrix = product([factor.detach() for factor in built.pointwise.mixes])
    x = torch.randn(4, shape[0], dtype=torch.float64)
    expected = fold(expand(x, matrix.shape[0]) @ matrix.mT, shape[1])
    torch.testing.assert_close(x @ built.pointwise.make_weight().mT, expected)


@given(
    block=st.integers(1, 3),
    count=st.integers(1, 4),
    zeros=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
def test_a_butterfly_matrix_is_found_again(block: int, count: int, zeros: float, seed: int) -> None:
    """Whatever its ranks: many of the numbers may be zero."""
    torch.manual_seed(seed)
    factors = random_factors(block, count)
    factors = [factor * (torch.rand_like(factor) >= zeros) for factor in factors]
    matrix = product(factors)
    found = factorise(matrix, block)
    assert [factor.shape for factor in found] == [factor.shape for factor in factors]
    assert float((product(found) - matrix).norm()) <= 1e-12 * float(matrix.norm())


@given(
    block=st.integers(1, 3),
    count=st.integers(2, 4),
    noise=st.floats(0.001, 1),
    seed=st.integers(0, 99),
)
def test_the_distance_is_near_the_smallest(block: int, count: int, noise: float, seed: int) -> None:
    """At most √(m − 1) times the distance of a known butterfly matrix."""
    torch.manual_seed(seed)
    near = product(random_factors(block, count))
    off = noise * torch.randn_like(near)
    found = product(factorise(near + off, block))
    distance = float((found - near - off).norm())
    assert distance <= math.sqrt(count - 1) * float(off.norm()) * (1 + 1e-9)


class TestStart:
    @given(channels=st.integers(1, 8), seed=st.integers(0, 99))
    def test_one_factor_holds_every_matrix(self, channels: int, seed: int) -> None:
        torch.manual_seed(seed)
        matrix = torch.randn(2 * channels, 2 * channels, dtype=torch.float64)
        assert left(matrix, block=channels) < 1e-12

    def test_known_butterfly_matrices(self) -> None:
        hadamard = torch.from_numpy(scipy.linalg.hadamard(64)).double()
        assert left(hadamard, block=1) < 1e-12
        torch.manual_seed(0)
        own = BUTTERFLY.build(nn.Conv1d(96, 96, 1).double(), BUTTERFLY.config({"block": 3}))
        assert left(own.pointwise.make_weight().detach(), block=3) < 1e-12
        assert left(torch.randn(64, 64, dtype=torch.float64), block=1) > 0.5

    def test_factors_start_equally_large(self) -> None:
        conv = nn.Conv1d(16, 16, 1, dtype=torch.float64)
        built = BUTTERFLY.build(conv, BUTTERFLY.config({"block": 1}))
        built.fit(conv)
        norms = [float(factor.detach().norm()) for factor in built.pointwise.mixes]
        assert max(norms) == pytest.approx(min(norms))

    def test_an_oblong_map_comes_nearer_by_gradient_descent(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        torch.manual_seed(0)
        matrix = torch.randn(8, 4)
        after = left(matrix, block=1)
        base = "seclcompress.substitutions.shapes.factored.fit_factors"
        monkeypatch.setattr(base, lambda *_: math.inf)  # descent has led away: its start is kept
        before = left(matrix, block=1)
        assert after < 0.9 * before


def test_the_sizes_that_a_ratio_gives() -> None:
    def note(shape: tuple[int, int], **options: Any) -> str:
        site = Site(nn.Conv1d(*shape, 1, bias=False), {CallSize((3,), (3,)): 1})
        cost = BUTTERFLY.cost(site, BUTTERFLY.config(options))
        dense = shape[0] * shape[1]
        assert cost.mult_adds == {"dense": 3 * dense, "fast": 3 * cost.parameters}
        return f"{cost.parameters}: {cost.note}"

    assert note((64, 64)) == "768: N is 64, 2^6 blocks of 1"
    assert note((256, 256)) == "12288: N is 256, 2^6 blocks of 4"
    assert note((96, 96), ratio=0.35) == "2880: N is 96, 2^5 blocks of 3"
    assert note((96, 96)) == "1792: N is 128, 2^7 blocks of 1"
    assert note((64, 128), ratio=0.5) == "3072: N is 128, 2^6 blocks of 2"
    fewest = "the fewest numbers there are: {} of the dense map's"
    assert note((16, 16), ratio=0.1) == f"128: N is 16, 2^4 blocks of 1, {fewest.format(0.5)}"
    assert note((64, 64), ratio=1.0) == "4096: N is 64, 2^1 blocks of 32"
    assert note((64, 64), block=8) == "3072: N is 64, 2^3 blocks of 8"
    assert note((1, 1)) == f"4: N is 2, 2^1 blocks of 1, {fewest.format(4)}"


def test_blocks_that_are_too_large_are_refused_in_words() -> None:
    config = BUTTERFLY.config({"block": 9})
    reason = BUTTERFLY.refuse(nn.Conv2d(8, 4, 3), config)
    assert reason == "blocks of 9 are larger than its 8 channels"
    assert BUTTERFLY.refuse(nn.Conv2d(9, 4, 3), config) is None
    for options in ({"ratio": 0}, {"block": -1}, {"rank": 2}):
        with pytest.raises(UsageError, match="It takes: ratio, block"):
            BUTTERFLY.config(options)
