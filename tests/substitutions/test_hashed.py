"""Hashed: weights that are looked up in a small table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from promises import FactoredPromises, FullPromises, SplitPromises
from torch import nn

from seclcompress import substitutions
from seclcompress.errors import UsageError
from seclcompress.substitutions import CallSize, Site
from seclcompress.substitutions.shapes import hashing
from seclcompress.substitutions.shapes.hashing import permuted, signed_places

HASHED = substitutions.get("hashed")
CPU = torch.device("cpu")


class TestOfTheChannels(SplitPromises, FactoredPromises):
    family = substitutions.get("hashed")
    cases = ({}, {"ratio": 1.0, "seed": 3})


class TestOfTheKernel(FullPromises):
    family = HASHED
    kernels = (3,)
    cases = ({"on": "kernel"}, {"on": "kernel", "ratio": 0.05})


class TestTheHash:
    @given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 2**31 - 1))
    def test_it_is_a_permutation(self, rows: int, columns: int, seed: int) -> None:
        row, column = permuted(torch.arange(rows)[:, None], rows, columns, seed)
        assert row.shape == column.shape == (rows, columns)
        found = (row * columns + column).flatten().sort().values
        assert torch.equal(found, torch.arange(rows * columns))

    @given(
        rows=st.integers(1, 30),
        columns=st.integers(1, 30),
        share=st.floats(0.001, 1),
        seed=st.integers(0, 99),
    )
    def test_all_places_are_used_equally_often(
        self, rows: int, columns: int, share: float, seed: int
    ) -> None:
        size = max(1, int(share * rows * columns))
        counts = signed_places(rows, columns, size, seed, CPU).remainder(size).bincount()
        often = rows * columns // size
        assert counts.shape == (size,)
        assert set(counts.tolist()) <= {often, often + 1}

    def test_it_is_the_same_for_ever(self) -> None:
        """Saved networks hold no hash, so it must not change, with torch or with this code."""
        assert signed_places(3, 5, 6, 0, CPU).tolist() == GOLDEN[0]
        assert signed_places(3, 5, 6, 2**31 - 1, CPU).tolist() == GOLDEN[1]
        large = signed_places(300, 500, 70_000, 7, CPU)
        assert large.dtype == torch.int32
        weights = torch.arange(150_000) % 1009
        assert int((large.long() * weights).sum()) == GOLDEN_SUM

    def test_it_does_not_depend_on_the_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = signed_places(13, 7, 30, 5, CPU)
        for chunk in (1, 7, 20):
            monkeypatch.setattr(hashing, "_CHUNK", chunk)
            assert torch.equal(signed_places(13, 7, 30, 5, CPU), whole)

    def test_it_looks_random(self) -> None:
        """Signs and places of neighbours have nothing to do with each other, nor do two seeds'."""
        side, size = 128, 4096
        one, other = (signed_places(side, side, size, seed, CPU) for seed in (0, 1))
        signs = 1 - 2 * (one >= size).double().reshape(side, side)
        many = 4 / side  # four standard deviations of a mean of side² random signs
        assert abs(float(signs.mean())) < many
        for axis in (0, 1):
            assert abs(float((signs * signs.roll(1, axis)).mean())) < many
            assert float(signs.mean(axis).abs().max()) < 5 / side**0.5
        places = one.remainder(size).double().reshape(side, side)
        scaled = (places - places.mean()) / places.std()
        for axis in (0, 1):
            assert abs(float((scaled * scaled.roll(1, axis)).mean())) < many
            assert float(scaled.mean(axis).abs().max()) < 5 / side**0.5
        assert int((one == other).sum()) < 20

    def test_a_weight_from_a_table_has_full_rank(self) -> None:
        built = HASHED.build(nn.Conv2d(64, 64, 1), HASHED.config({"ratio": 0.1}))
        assert torch.linalg.matrix_rank(built.pointwise.make_weight()) == 64


def test_each_entry_is_one_of_the_table_or_its_negative() -> None:
    conv = nn.Conv2d(6, 10, 3, bias=False)
    built = HASHED.build(conv, HASHED.config({"on": "kernel", "ratio": 0.1}))
    places = signed_places(10, 54, 54, 0, CPU)
    values = built.table.values.detach()
    signs = torch.where(places >= 54, -1.0, 1.0)
    expected = (values[places.long() % 54] * signs).reshape(10, 6, 3, 3)
    assert torch.equal(built.make_weight(), expected)


@given(
    channels=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    on=st.sampled_from(["pointwise", "kernel"]),
    seed=st.integers(0, 99),
)
def test_a_table_of_full_size_holds_any_weight(
    channels: tuple[int, int], on: str, seed: int
) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv1d(*channels, 3 if on == "kernel" else 1, dtype=torch.float64)
    built = HASHED.build(conv, HASHED.config({"ratio": 1.0, "seed": seed, "on": on}))
    assert built.fit(conv).left == 0
    x = torch.randn(2, channels[0], 5, dtype=torch.float64)
    torch.testing.assert_close(built(x), conv(x))


@pytest.mark.parametrize("on", ["pointwise", "kernel"])
def test_the_start_is_the_nearest_table(on: str) -> None:
    """What is left does not fall along any entry of the table: the gradient is zero."""
    torch.manual_seed(0)
    conv = nn.Conv1d(12, 9, 3 if on == "kernel" else 1, bias=False, dtype=torch.float64)
    built = HASHED.build(conv, HASHED.config({"ratio": 0.3, "on": on}))
    fit = built.fit(conv)
    part = built if on == "kernel" else built.pointwise
    target = conv.weight.detach().reshape(part.make_weight().shape)
    distance = (part.make_weight() - target).square().sum()
    (gradient,) = torch.autograd.grad(distance, [part.table.values])
    assert float(gradient.abs().max()) < 1e-12
    found = float(distance.detach().sqrt() / target.norm())
    assert fit.left == pytest.approx(found)
    assert fit.energy == pytest.approx(0.3, abs=0.15)


def test_no_index_is_saved_or_pickled_and_a_loaded_network_finds_its_own() -> None:
    config = HASHED.config({"seed": 5})
    conv = nn.Conv2d(64, 64, 1)
    built = HASHED.build(conv, config)
    state = built.state_dict()
    assert {name: value.numel() for name, value in state.items()} == {
        "pointwise.bias": 64,
        "pointwise.table.values": 1024,
    }
    empty = HASHED.build(nn.Conv2d(64, 64, 1, device="meta"), config)
    assert empty.pointwise.table._places is None
    empty.load_state_dict(state, assign=True)
    x = torch.randn(2, 64, 3, 3)
    assert torch.equal(empty(x), built(x))


def test_sizes_and_costs() -> None:
    def cost(conv: nn.Module, **options: Any) -> tuple[int, dict[str, int], str]:
        found = HASHED.cost(Site(conv, {CallSize((4, 4), (4, 4)): 1}), HASHED.config(options))
        return found.parameters, found.mult_adds, found.note

    whole = nn.Conv2d(16, 32, 3, padding=1, bias=False)
    note = "a table of 128 for 512"
    assert cost(whole) == (9 * 16 + 128, {"dense": 16 * (9 * 16 + 512)}, note)
    note = "a table of 1,336 for 4,608"
    assert cost(whole, on="kernel", ratio=0.29) == (1336, {"dense": 16 * 4608}, note)
    grouped = nn.Conv2d(16, 32, 3, padding=1, groups=4)
    note = "a table of 288 for 1,152"
    assert cost(grouped, on="kernel") == (288 + 32, {"dense": 16 * 1152}, note)
    assert cost(nn.Conv2d(1, 2, 1, bias=False), ratio=0.1)[0] == 1


def test_options() -> None:
    for options in ({"ratio": 2}, {"seed": -1}, {"seed": 2**31}, {"rank": 2}):
        with pytest.raises(UsageError, match="It takes: ratio, on, seed"):
            HASHED.config(options)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_many_places_of_an_entry_add_up_in_full_precision(dtype: torch.dtype) -> None:
    """In bfloat16 a sum of ones stops at 256, and an entry has a thousand places here."""
    linear = nn.Linear(256, 256, dtype=dtype)
    built = HASHED.build(linear, HASHED.config({"ratio": 0.001}))
    table = built.convolution.pointwise
    weight = table.make_weight()
    (values,) = table.factors()
    signs = torch.sign(weight.detach().float() * _at_its_place(table, values))
    (weight.float() * signs).sum().backward()
    places = 256 * 256 / values.numel()
    assert values.grad is not None
    assert float((values.grad.float() / places - 1).abs().max()) < 0.02


def _at_its_place(table: Any, values: torch.Tensor) -> torch.Tensor:
    """The sign of the entry that each weight was made from."""
    with torch.no_grad():
        kept = values.clone()
        values.fill_(1)
        signs = table.make_weight().float()
        values.copy_(kept)
        return signs * table.make_weight().float()


# What `signed_places` gave when the family was first released.
GOLDEN = (
    [9, 1, 11, 7, 4, 9, 6, 8, 2, 4, 1, 0, 2, 6, 5],
    [4, 8, 0, 8, 11, 11, 8, 1, 6, 7, 3, 10, 6, 9, 7],
)
GOLDEN_SUM = 5_129_173_500_472
