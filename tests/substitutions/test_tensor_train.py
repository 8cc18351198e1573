"""Tensor train: the channels' matrix as a chain of small cores."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from promises import FactoredPromises, SplitPromises, TwoWayPromises
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from seclcompress import substitutions
from seclcompress.substitutions import CallSize, Site
from seclcompress.substitutions.shapes.train import channel_sides, near_equal_factors

TRAIN = substitutions.get("tensor_train")


class TestTensorTrain(SplitPromises, FactoredPromises):
    family = substitutions.get("tensor_train")
    cases = ({}, {"rank": 3, "cores": 2}, {"ratio": 1})


class TestTensorTrainOfTheKernel(TwoWayPromises):
    family = substitutions.get("tensor_train")
    cases = ({"on": "kernel"}, {"on": "kernel", "rank": 99, "cores": 2})


@given(number=st.integers(1, 5000), parts=st.integers(1, 6))
def test_factors_of_the_channels(number: int, parts: int) -> None:
    found = near_equal_factors(number, parts)
    assert len(found) == parts
    assert math.prod(found) == number
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("number", "parts", "factors"),
    [(64, 3, [4, 4, 4]), (512, 3, [8, 8, 8]), (96, 3, [4, 4, 6]), (13, 2, [1, 13]), (1, 2, [1, 1])],
)
def test_they_are_near_equal(number: int, parts: int, factors: list[int]) -> None:
    assert near_equal_factors(number, parts) == factors


def test_large_factors_of_the_inputs_stand_beside_small_ones_of_the_outputs() -> None:
    assert channel_sides(3, 64, 3) == ((4, 3), (4, 1), (4, 1))
    assert channel_sides(6, 10, 3) == ((1, 3), (2, 2), (5, 1))
    assert channel_sides(13, 13, 3) is None


@pytest.mark.parametrize(
    ("options", "note", "weights"),
    [
        (  # 16r + 16r² + 16r of 4096 ÷ 4 = 1024
            {},
            "4·4·4 → 4·4·4 channels, TT-ranks 7, 7",
            2 * 16 * 7 + 16 * 49,
        ),
        ({"rank": 99}, "4·4·4 → 4·4·4 channels, TT-ranks 16, 16", 2 * 256 + 16 * 256),
        ({"cores": 2, "rank": 3}, "8·8 → 8·8 channels, TT-ranks 3", 2 * 64 * 3),
        (  # 9 is the most that nine positions need
            {"on": "kernel", "rank": 99},
            "4·4·4 → 4·4·4 channels, TT-ranks 9, 99, 16",
            81 + 9 * 16 * 99 + 99 * 16 * 16 + 16 * 16,
        ),
        (
            {"on": "kernel", "rank": 5},
            "4·4·4 → 4·4·4 channels, TT-ranks 5, 5, 5",
            45 + 2 * 5 * 16 * 5 + 16 * 5,
        ),
    ],
)
def test_ranks_and_parameters(options: dict[str, Any], note: str, weights: int) -> None:
    conv = nn.Conv2d(64, 64, 3, bias=False)
    cost = TRAIN.cost(Site(conv), TRAIN.config(options))
    assert cost.note == note
    assert cost.parameters == weights + (0 if "on" in options else 9 * 64)


def test_the_formula() -> None:
    """Each entry of W is the product of one matrix of each core, at the digits of its two indices."""
    conv = nn.Conv2d(12, 30, (2, 3), dtype=torch.float64)
    built = TRAIN.build(conv, TRAIN.config({"on": "kernel", "rank": 4}))
    filters, *cores = (core.detach() for core in built.cores)
    rows, columns = ([core.shape[side] for core in cores] for side in (1, 2))
    weight = built.make_weight().detach()
    outputs = list(product(*map(range, rows)))
    inputs = list(product(*map(range, columns)))
    for i, j, y, x in ((0, 0, 0, 0), (29, 11, 1, 2), (7, 5, 1, 0), (16, 2, 0, 1)):
        entry = filters[:, y, x]
        for core, row, column in zip(cores, outputs[i], inputs[j], strict=True):
            entry = entry @ core[:, row, column]
        assert float(entry) == pytest.approx(float(weight[i, j, y, x]))


@given(
    c_in=st.sampled_from([8, 12, 16, 24]),
    c_out=st.sampled_from([8, 12, 16, 24]),
    rank=st.integers(2, 9),  # with 1 torch multiplies without a contraction, and does not count it
    cores=st.integers(2, 3),
    on=st.sampled_from(["pointwise", "kernel"]),
)
def test_fast_takes_what_was_promised(
    c_in: int, c_out: int, rank: int, cores: int, on: str
) -> None:
    """By torch's own counter, and so does multiplying the cores out."""
    conv = nn.Conv2d(c_in, c_out, 3, stride=2, padding=1)
    config = TRAIN.config({"on": on, "rank": rank, "cores": cores})
    built = TRAIN.build(conv, config).eval()
    built.execution = "fast"
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built(torch.randn(1, c_in, 7, 6))
    cost = TRAIN.cost(Site(conv, {CallSize((7, 6), (4, 3)): 1}), config)
    assert counter.get_total_flops() == 2 * cost.mult_adds["fast"]
    made = built if on == "kernel" else built.pointwise
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made.make_weight()
    assert counter.get_total_flops() == 2 * made.shape.matrix


@given(
    c_in=st.integers(2, 24),
    c_out=st.integers(2, 24),
    kernel=st.sampled_from([(1, 1), (3, 3), (2, 3)]),
    cores=st.integers(2, 3),
    rank=st.one_of(st.integers(1, 9), st.just(9999)),
    seed=st.integers(0, 99),
)
def test_the_start(
    c_in: int, c_out: int, kernel: tuple[int, int], cores: int, rank: int, seed: int
) -> None:
    """TT-SVD's bounds (Oseledets, 2011), and an exact start at full rank."""
    torch.manual_seed(seed)
    conv = nn.Conv2d(c_in, c_out, kernel, dtype=torch.float64)
    config = TRAIN.config({"on": "kernel", "rank": rank, "cores": cores})
    if TRAIN.refuse(conv, config) is not None:
        return
    built = TRAIN.build(conv, config)
    fit = built.fit(conv)
    w = conv.weight.detach()
    found = built.to_dense().weight.detach()
    assert float((found - w).norm() / w.norm()) == pytest.approx(fit.left, abs=1e-12)
    sides = channel_sides(c_in, c_out, cores)
    rows, columns = zip(*sides, strict=True)
    order = [axis for core in range(cores) for axis in (core, core + cores)]
    tensor = w.reshape(*rows, *columns, -1).movedim(-1, 0).permute(0, *[a + 1 for a in order])
    lost = []
    for core in range(cores):
        unfolded = tensor.flatten(2 * core + 1).flatten(0, 2 * core)
        values = torch.linalg.svdvals(unfolded).square()
        lost.append(float(values[rank:].sum() / values.sum()))
    assert max(lost) - 1e-12 <= fit.left**2 <= sum(lost) + 1e-12
    if rank == 9999:
        x = torch.randn(2, c_in, 5, 5, dtype=torch.float64)
        for execution in ("dense", "fast"):
            built.execution = execution
            torch.testing.assert_close(built(x), conv(x))


def test_the_cores_start_with_equal_norms() -> None:
    conv = nn.Conv2d(8, 12, 3)
    built = TRAIN.build(conv, TRAIN.config({"on": "kernel"}))
    built.fit(conv)
    norms = [float(core.detach().norm()) for core in built.cores]
    assert norms == pytest.approx([norms[0]] * 4, rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((13, 13), {}, "its 13 × 13 channels have too few factors for 3 cores; cores=2 would do"),
        ((6, 6), {"cores": 9}, "for 9 cores; cores=4 would do"),
        ((1, 7), {}, "its 1 × 7 channels have too few factors for 3 cores"),
    ],
)
def test_channels_without_factors(
    shape: tuple[int, int], options: dict[str, Any], words: str
) -> None:
    reason = TRAIN.refuse(nn.Conv2d(*shape, 3), TRAIN.config(options))
    assert reason is not None
    assert reason.endswith(words)


def test_groups_are_refused_for_the_whole_kernel() -> None:
    conv = nn.Conv2d(8, 8, 3, groups=2)
    reason = TRAIN.refuse(conv, TRAIN.config({"on": "kernel"}))
    assert reason == "its 2 groups have no weights between them; on=pointwise can replace it"
    assert TRAIN.refuse(conv, TRAIN.config({})) is None
