"""Kronecker: sums of Kronecker products, for the channels or for the whole kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from promises import FactoredPromises, SplitPromises, TwoWayPromises
from torch import Tensor, nn

from seclcompress import substitutions
from seclcompress.cost import LayerCost
from seclcompress.errors import UsageError
from seclcompress.substitutions import CallSize, Site

KRONECKER = substitutions.get("kronecker")


class TestOfTheChannels(SplitPromises, FactoredPromises):
    family = substitutions.get("kronecker")
    cases = ({}, {"terms": 1}, {"ratio": 1.0})


class TestOfTheKernel(TwoWayPromises):
    family = KRONECKER
    cases = ({"on": "kernel"}, {"on": "kernel", "terms": 3})


def weight_of(built: Any) -> Tensor:
    part = getattr(built, "pointwise", built)
    return part.make_weight().detach()


def cost_of(conv: nn.Module, **options: Any) -> LayerCost:
    site = Site(conv, {CallSize((4, 4), (4, 4)): 1})
    return KRONECKER.cost(site, KRONECKER.config(options))


@pytest.mark.parametrize(
    ("conv", "options"),
    [
        (nn.Conv1d(6, 10, 1, bias=False, dtype=torch.float64), {"terms": 3}),
        (nn.Conv1d(16, 8, 1, bias=False, dtype=torch.float64), {"terms": 2}),
        (nn.Conv2d(6, 8, 3, bias=False, dtype=torch.float64), {"terms": 2, "on": "kernel"}),
    ],
)
def test_it_is_torchs_kronecker_product(conv: nn.Module, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    built = KRONECKER.build(conv, KRONECKER.config(options))
    part = getattr(built, "pointwise", built)
    sides = part.sides
    found = weight_of(built).reshape(*conv.weight.shape[:2], sides.positions)
    b = part.b.unflatten(-1, (sides.in_b, sides.positions))
    for place in range(sides.positions):
        expected = sum(torch.kron(a_t, b_t) for a_t, b_t in zip(part.a, b[..., place], strict=True))
        torch.testing.assert_close(found[..., place], expected.detach())


@given(
    channels=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    kernel=st.integers(1, 3),
    on=st.sampled_from(["pointwise", "kernel"]),
    seed=st.integers(0, 99),
)
def test_with_all_terms_the_start_from_trained_weights_is_exact(
    channels: tuple[int, int], kernel: int, on: str, seed: int
) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv1d(*channels, kernel if on == "kernel" else 1, dtype=torch.float64)
    built = KRONECKER.build(conv, KRONECKER.config({"terms": 2**20, "on": on}))
    fit = built.fit(conv)
    assert fit.left < 1e-12
    x = torch.randn(2, channels[0], 5, dtype=torch.float64)
    for execution in ("dense", "fast"):
        built.execution = execution
        torch.testing.assert_close(built(x), conv(x))


@given(
    sizes=st.tuples(*[st.integers(1, 4)] * 4),
    terms=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_a_sum_of_the_family_is_found_again_and_the_rest_is_what_is_left(
    sizes: tuple[int, int, int, int], terms: int, seed: int
) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv1d(sizes[0] * sizes[1], sizes[2] * sizes[3], 1, bias=False, dtype=torch.float64)
    config = KRONECKER.config({"terms": terms})
    own = KRONECKER.build(conv, config)
    sides = own.pointwise.sides
    w = conv.weight.detach()[:, :, 0]
    rearranged = torch.stack(
        [
            block.flatten()
            for rows in w.split(sides.out_b)
            for block in rows.split(sides.in_b, dim=1)
        ]
    )
    beyond = float(torch.linalg.svdvals(rearranged)[terms:].square().sum()) ** 0.5
    assert KRONECKER.build(conv, config).fit(conv).left == pytest.approx(
        beyond / float(w.norm()), abs=1e-12
    )
    conv.weight = nn.Parameter(weight_of(own)[:, :, None])
    assert KRONECKER.build(conv, config).fit(conv).left < 1e-12


def test_sizes_and_costs() -> None:
    plain = cost_of(nn.Conv2d(64, 64, 1, bias=False))
    assert plain.note == "8 of 64 terms 8×8 ⊗ 8×8"
    assert plain.parameters == 8 * 128 == 0.25 * 64 * 64
    assert plain.mult_adds == {"dense": 16 * 4096, "fast": 16 * 8 * (512 + 512)}
    whole = cost_of(nn.Conv2d(64, 128, 3, padding=1), on="kernel")
    assert whole.note == "33 of 256 terms 16×16 ⊗ 8×4"
    assert whole.parameters == 33 * (256 + 288) + 128
    assert whole.parameters - 128 <= 0.25 * 64 * 128 * 9
    assert whole.mult_adds == {
        "dense": 16 * 64 * 128 * 9,
        "fast": 16 * 33 * (16 * 4 * 8 * 9 + 16 * 16 * 8),
    }
    assert cost_of(nn.Conv2d(7, 11, 1)).note == "1 of 7 terms 11×1 ⊗ 1×7"
    assert cost_of(nn.Conv2d(3, 64, 1)).note == "1 of 12 terms 16×1 ⊗ 4×3"
    assert cost_of(nn.Conv2d(8, 8, 1), terms=99).note.startswith("8 of 8 terms")


def test_grouped_convolutions_and_odd_options() -> None:
    conv = nn.Conv2d(8, 8, 3, groups=2)
    assert KRONECKER.refuse(conv, KRONECKER.config({})) is None
    reason = KRONECKER.refuse(conv, KRONECKER.config({"on": "kernel"}))
    assert reason is not None
    assert "its 2 groups have no weights between them" in reason
    for options in ({"ratio": 0}, {"terms": -1}, {"rank": 2}, {"on": "space"}):
        with pytest.raises(UsageError, match="It takes: ratio, on, terms"):
            KRONECKER.config(options)
