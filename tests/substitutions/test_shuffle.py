"""Shuffle: grouped maps with channel shuffles between them."""

from __future__ import annotations

import math

import pytest
import torch
from promises import FactoredPromises, SplitPromises
from torch import nn

from seclcompress import substitutions
from seclcompress.errors import UsageError
from seclcompress.substitutions import CallSize, Site
from seclcompress.substitutions.shapes.permutation import channel_shuffle
from seclcompress.transforms import riffle

SHUFFLE = substitutions.get("shuffle")


class TestShuffle(SplitPromises, FactoredPromises):
    family = substitutions.get("shuffle")
    cases = (
        {"groups": 2},
        {"layers": 1, "groups": 2},
        {"layers": 3, "groups": 2},
        {"layers": 2, "groups": 1},
    )


def test_the_shuffle_is_torchs_own_and_the_riffle() -> None:
    x = torch.arange(24.0).reshape(2, 12)
    for groups in (1, 2, 3, 4, 6, 12):
        expected = nn.ChannelShuffle(groups)(x[:, :, None, None]).flatten(1)
        assert torch.equal(channel_shuffle(x, groups), expected)
    assert torch.equal(channel_shuffle(x, 2), riffle(x))


@pytest.mark.parametrize("shape", [(12, 12), (12, 24), (24, 12)])
@pytest.mark.parametrize("layers", [1, 2, 4])
def test_it_is_torchs_grouped_convolutions(shape: tuple[int, int], layers: int) -> None:
    torch.manual_seed(0)
    built = SHUFFLE.build(
        nn.Conv1d(*shape, 1, dtype=torch.float64), SHUFFLE.config({"layers": layers, "groups": 3})
    )
    steps: list[nn.Module] = []
    for blocks in built.pointwise.maps:
        g, outputs, inputs = blocks.shape
        conv = nn.Conv1d(g * inputs, g * outputs, 1, groups=g, bias=False, dtype=torch.float64)
        conv.weight = nn.Parameter(blocks.detach().reshape(g * outputs, inputs, 1))
        steps += [nn.ChannelShuffle(g), conv] if steps else [conv]
    assert [step.out_channels for step in steps[::2]] == [12] * (layers - 1) + [shape[1]]
    x = torch.randn(2, shape[0], 5, dtype=torch.float64)
    expected = nn.Sequential(*steps)(x) + built.pointwise.bias[:, None]
    torch.testing.assert_close(built(x), expected)


@pytest.mark.parametrize(
    ("channels", "layers", "groups", "parameters"),
    [
        (32, 1, 2, 544),  # the research log's ShuffleNet_1_2 …, each with a bias
        (32, 1, 16, 96),
        (32, 2, 2, 1056),
        (32, 2, 16, 160),
        (64, 1, 64, 128),
        (64, 1, 8, 576),
        (64, 2, 64, 192),
        (64, 2, 8, 1088),
    ],
)
def test_parameters_are_the_logs(channels: int, layers: int, groups: int, parameters: int) -> None:
    site = Site(nn.Conv1d(channels, channels, 1), {CallSize((1,), (1,)): 1})
    config = SHUFFLE.config({"layers": layers, "groups": groups})
    cost = SHUFFLE.cost(site, config)
    assert cost.parameters == parameters
    assert cost.mult_adds == {"dense": channels**2, "fast": parameters - channels}
    assert cost.parameters == sum(p.numel() for p in SHUFFLE.build(site, config).parameters())


def test_parameters_of_oblong_layers() -> None:
    """Between the maps there are as many channels as the fewer: W has no higher rank."""
    for shape in ((8, 24), (24, 8)):
        conv = nn.Conv2d(*shape, 3, bias=False)
        site = Site(conv, {CallSize((5, 5), (3, 3)): 1})
        cost = SHUFFLE.cost(site, SHUFFLE.config({"layers": 4, "groups": 4}))
        weights = (8 * 24 + 3 * 8 * 8) // 4
        assert cost.parameters == 9 * shape[0] + weights
        assert cost.mult_adds["fast"] == 9 * (9 * shape[0] + weights)


def test_groups_that_do_not_divide_are_refused_in_words() -> None:
    config = SHUFFLE.config({"groups": 4})
    assert SHUFFLE.refuse(nn.Conv2d(8, 6, 3), config) == "4 groups do not divide its 6 channels"
    assert SHUFFLE.refuse(nn.Conv2d(3, 8, 3), config) == "4 groups do not divide its 3 channels"
    for options in ({"layers": 0}, {"groups": 0}, {"depth": 2}):
        with pytest.raises(UsageError, match="It takes: layers, groups"):
            SHUFFLE.config(options)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("shape", [(8, 12), (12, 8), (8, 8)])
def test_at_full_rank_the_start_from_trained_weights_is_exact(
    layers: int, shape: tuple[int, int]
) -> None:
    conv = nn.Conv1d(*shape, 1, dtype=torch.float64)
    built = SHUFFLE.build(conv, SHUFFLE.config({"layers": layers, "groups": 1}))
    fit = built.fit(conv)
    assert fit.left < 1e-12
    assert fit.of == "the pointwise weights"
    x = torch.randn(2, shape[0], 5, dtype=torch.float64)
    torch.testing.assert_close(built(x), conv(x))


@pytest.mark.parametrize(("shape", "groups"), [((8, 8), 2), ((16, 32), 4), ((48, 16), 4)])
def test_two_maps_hold_the_first_singular_values_of_every_block(
    shape: tuple[int, int], groups: int
) -> None:
    """The nearest there is: what is left are the other singular values."""
    torch.manual_seed(0)
    conv = nn.Conv1d(*shape, 1, bias=False, dtype=torch.float64)
    built = SHUFFLE.build(conv, SHUFFLE.config({"groups": groups}))
    rank = min(shape) // groups**2
    w = conv.weight.detach()[:, :, 0]
    rows, columns = (side // groups for side in w.shape)
    left = 0.0
    for j in range(groups):
        for i in range(groups):
            block = w[j * rows : (j + 1) * rows, i * columns : (i + 1) * columns]
            left += float(torch.linalg.svdvals(block)[rank:].square().sum())
    fit = built.fit(conv)
    assert fit.left == pytest.approx(math.sqrt(left) / float(w.norm()))
    found = built.pointwise.make_weight().detach()
    assert float((found - w).norm()) == pytest.approx(math.sqrt(left))


def test_a_matrix_of_the_family_is_found_again() -> None:
    torch.manual_seed(1)
    conv = nn.Conv1d(16, 16, 1, bias=False, dtype=torch.float64)
    other = SHUFFLE.build(conv, SHUFFLE.config({"groups": 4}))
    conv.weight = nn.Parameter(other.pointwise.make_weight().detach()[:, :, None])
    assert SHUFFLE.build(conv, SHUFFLE.config({"groups": 4})).fit(conv).left < 1e-12


def test_one_map_takes_the_blocks_on_the_diagonal() -> None:
    conv = nn.Conv1d(6, 4, 1, bias=False, dtype=torch.float64)
    built = SHUFFLE.build(conv, SHUFFLE.config({"layers": 1, "groups": 2}))
    built.fit(conv)
    w = conv.weight.detach()[:, :, 0]
    torch.testing.assert_close(
        built.pointwise.make_weight().detach(), torch.block_diag(w[:2, :3], w[2:, 3:])
    )
