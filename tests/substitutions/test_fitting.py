"""A start from the original's weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from examples import acdc_depthwise, symmetric_full
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seclcompress import substitutions
from seclcompress.substitutions.fitting import Fit, fit_factors, split_kernel
from seclcompress.substitutions.shapes import white_gain
from seclcompress.substitutions.site import CONVOLUTIONS


@given(
    groups=st.sampled_from([1, 2, 3]),
    inside=st.integers(1, 4),
    outside=st.integers(1, 4),
    dimensions=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_a_separable_convolution_is_taken_over_whole(
    groups: int, inside: int, outside: int, dimensions: int, seed: int
) -> None:
    """Kernels that are a filter times a column have rank 1, so nothing is lost."""
    torch.manual_seed(seed)
    kind = CONVOLUTIONS[dimensions]
    conv = kind(groups * inside, groups * outside, 3, padding=1, groups=groups)
    filters = torch.randn(groups, 1, inside, *[3] * dimensions)
    columns = torch.randn(groups, outside, inside, *[1] * dimensions)
    with torch.no_grad():
        conv.weight.copy_((filters * columns).flatten(0, 1))
    family = substitutions.get("separable")
    if family.refuse(conv, family.config({})):
        return
    layer = family.build(conv, family.config({}))
    assert layer.fit(conv).left == 0
    x = torch.randn(2, conv.in_channels, *[5] * dimensions)
    torch.testing.assert_close(layer(x), conv(x), atol=1e-4, rtol=1e-4)


def test_the_nearest_of_rank_one() -> None:
    """The error is the sum of the squares of the other singular values, which is the least possible."""
    conv = nn.Conv2d(5, 7, 3)
    space, matrix = split_kernel(conv)
    product = matrix.T[:, :, None] * space.reshape(5, 1, 9)
    kernels = conv.weight.detach().transpose(0, 1).flatten(2)
    left_out = torch.linalg.svdvals(kernels)[:, 1:].square().sum()
    torch.testing.assert_close((kernels - product).square().sum(), left_out)
    assert (space.sum((1, 2, 3)) >= 0).all()


@pytest.mark.parametrize(
    "conv",
    [nn.Conv2d(8, 12, 1, groups=4, stride=2), nn.Conv1d(6, 6, 1), nn.Conv2d(4, 6, (1, 3))],
    ids=str,
)
def test_one_by_one(conv: nn.Module) -> None:
    family = substitutions.get("separable")
    layer = family.build(conv, family.config({}))
    layer.fit(conv)
    if all(size == 1 for size in conv.kernel_size):
        x = torch.randn(2, conv.in_channels, *[6] * (conv.weight.dim() - 2))
        torch.testing.assert_close(layer(x), conv(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("depth", [4, 12])
def test_a_stack_comes_nearer_than_a_random_one(depth: int) -> None:
    """At 16 channels, 12 layers have 384 parameters for the matrix's 256 entries, 4 layers have 128."""
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 3, padding=1)
    family = substitutions.get("acdc")
    layer = family.build(conv, family.config({"depth": depth}))
    left = layer.fit(conv).left
    assert left < {4: 0.75, 12: 0.5}[depth]
    space, matrix = split_kernel(conv)
    assert layer.depthwise is not None
    whole = layer.pointwise.make_weight().detach()
    scale = layer.depthwise.weight.detach().norm() / space.norm()
    found = float((whole * scale - matrix).norm() / matrix.norm())
    assert found == pytest.approx(left, rel=1e-3)
    assert all(p.grad is None for p in layer.parameters())
    assert all(p.requires_grad for p in layer.parameters())


def test_nothing_to_fit_to() -> None:
    conv = nn.Conv2d(4, 4, 3)
    nn.init.zeros_(conv.weight)
    family = substitutions.get("acdc")
    layer = family.build(conv, family.config({"depth": 2}))
    assert layer.fit(conv).left == 0
    assert layer(torch.randn(1, 4, 5, 5)).isfinite().all()


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_the_stack_keeps_the_size_it_starts_with(size: float) -> None:
    """Factors fit best at that size, so the filters take the rest of the original's size."""
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 3)
    conv.weight.data.mul_(size)
    family = substitutions.get("acdc")
    layer = family.build(conv, family.config({}))
    before = layer.pointwise.make_weight().norm()
    left = layer.fit(conv).left
    assert left < 0.5
    assert abs(float((layer.pointwise.make_weight().norm() / before).detach()) - 1) < left


def test_units_do_not_matter() -> None:
    def left(unit: float) -> float:
        factor = nn.Parameter(torch.ones(3))
        return fit_factors([factor], lambda: factor**2 * unit, torch.tensor([1.0, 2, -3]) * unit)

    assert left(2.0**-40) == left(1) == left(2.0**40)


def test_frozen_factors_stay_frozen() -> None:
    factor = nn.Parameter(torch.ones(3), requires_grad=False)
    left = fit_factors([factor], lambda: factor * 2, torch.tensor([1.0, 2, 3]))
    assert left < 0.01
    assert not factor.requires_grad


def test_one_step_goes_as_far_as_the_learning_rate() -> None:
    factor = nn.Parameter(torch.zeros(3))
    fit_factors([factor], lambda: factor + 0, torch.tensor([1.0, 2, -3]), steps=1)
    torch.testing.assert_close(factor.detach(), torch.tensor([0.01, 0.01, -0.01]))


def test_a_layer_of_zeros_has_the_gain_of_an_untrained_one() -> None:
    conv = nn.Conv2d(400, 300, 3)
    untrained = white_gain(conv)
    nn.init.zeros_(conv.weight)
    assert white_gain(conv) == white_gain(conv.to("meta")) == pytest.approx(1 / math.sqrt(3))
    assert untrained == pytest.approx(1 / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize("left", [0.0, 0.6, 1.0])
def test_energy_is_what_is_left_of_the_square(left: float) -> None:
    assert Fit(left, "the weights").energy == pytest.approx(1 - left * left)


def test_a_fit_says_of_what_it_is() -> None:
    """The words stand before "' energy taken over"."""
    acdc = substitutions.get("acdc")
    for conv in (nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3)):
        layer = acdc.build(conv, acdc.config({"depth": 1}))
        assert layer.fit(conv).of == "the pointwise weights"
    full, both = symmetric_full.SUBSTITUTION, acdc_depthwise.SUBSTITUTION
    conv = nn.Conv2d(4, 4, 3)
    assert full.build(conv, full.config({})).fit(conv).of == "the weights"
    words = both.build(conv, both.config({})).fit(conv).of
    assert words == "the depthwise and the pointwise weights, whichever fits worse,"


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("low_rank", {"rank": 8}),
        ("low_rank", {"rank": 8, "on": "kernel"}),
        ("kronecker", {"terms": 8}),
        ("tucker", {"rank": 8}),
        ("tensor_train", {"rank": 8}),
        ("monarch", {}),
        ("shuffle", {"groups": 4}),
        ("cp", {}),
    ],
    ids=str,
)
def test_a_start_from_pruned_weights_leaves_nothing_that_cannot_be_trained(
    family: str, options: dict[str, Any]
) -> None:
    """A component that is zero on all its sides gets no gradient, now and for ever."""
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 3)
    with torch.no_grad():
        conv.weight[:12] = 0
    chosen = substitutions.get(family)
    built = chosen.build(conv, chosen.config(options))
    built.fit(conv)
    built.train()(torch.randn(2, 16, 5, 5)).square().sum().backward()
    factors = built.parameter_groups()["factors"]
    assert not any(bool(((p.grad == 0) & (p == 0)).any()) for p in factors)
    moving = [float((p.grad != 0).float().mean()) for p in factors]
    assert max(moving) == 1, "every component is moved by one of its sides at least"
