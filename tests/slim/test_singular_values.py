"""Losing channels by singular values: which go, and that the others' readers do without them."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from joined_channels import NETWORKS, made
from torch import nn

from seclcompress.errors import DataError
from seclcompress.graph import Group, channel_groups, kept_by_layer, narrow_network
from seclcompress.settings.slimming import SlimOptions
from seclcompress.slim import (
    lost_by_energy,
    mend,
    norms,
    shares_lost,
    take_readings,
)
from seclcompress.slim import readings as readings_module
from seclcompress.slim.readings import Reading, ridge_share


def hidden(width: int = 12, outputs: int = 20, *, bias: bool = True) -> tuple[nn.Sequential, Group]:
    network = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, outputs, bias=bias))
    [group] = channel_groups(network, (6,)).groups
    return network, group


def without(network: nn.Module, groups: Sequence[Group], lost: dict[str, list[int]]) -> nn.Module:
    other = copy.deepcopy(network)
    return narrow_network(other, kept_by_layer(other, groups, lost))


@torch.no_grad()
def copy_channel(network: nn.Module, group: Group, source: int, target: int, times: float) -> None:
    """Makes one channel a multiple of another one, for all that makes, scales and normalises it."""
    for place, member in enumerate(group.members):
        layer = network.get_submodule(member.layer)
        if member.side == "inputs":
            continue
        old, new = list(group.atoms[source][place]), list(group.atoms[target][place])
        linear = isinstance(layer, nn.Conv2d | nn.Linear)
        for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
            if tensor.dim() == 0:
                continue
            scale = times if not linear and name in ("weight", "bias") else 1.0
            tensor[new] = scale * tensor[old]


class TestShares:
    @given(width=st.integers(2, 12), seed=st.integers(0, 1000))
    @settings(max_examples=30, deadline=None)
    def test_of_one_reader_they_are_the_tails_of_its_singular_values(
        self, width: int, seed: int
    ) -> None:
        torch.manual_seed(seed)
        network, group = hidden(width)
        images = torch.randn(200, 6)
        [reading] = take_readings(network, [group], [images])[group.name]
        values = torch.relu(network[0](images)).detach().double()
        centred = values - values.mean(0)
        moments = centred.T @ centred / 200
        moments += ridge_share(width, 200) * moments.diagonal().mean() * torch.eye(width)
        torch.testing.assert_close(reading.moments, moments, rtol=1e-5, atol=1e-7)
        weight = network[2].weight.detach().double()
        singular = torch.linalg.svdvals(weight @ torch.linalg.cholesky(moments)).square()
        energies = torch.zeros(width, dtype=torch.float64)
        energies[width - len(singular) :] = singular.flip(0)
        shares = shares_lost([reading]).sort().values
        torch.testing.assert_close(
            shares, energies.cumsum(0) / energies.sum(), rtol=1e-4, atol=1e-6
        )

    def test_what_the_others_make_as_well_goes_first(self) -> None:
        torch.manual_seed(0)
        network, group = hidden()
        with (
            torch.no_grad()
        ):  # behind a ReLU, 7 is the sum of what 2 and 3 make, as these never bend
            network[0].weight[7] = network[0].weight[2] + network[0].weight[3]
            network[0].bias[[2, 3]] = 50.0
            network[0].bias[7] = 100.0
            network[2].weight[:, 7] *= 10  # by its norm it would be the last one
        readings = take_readings(network, [group], [torch.randn(3000, 6)])
        shares = shares_lost(readings[group.name])
        assert int(shares.argmin()) in (2, 3, 7)
        assert shares.min() < 1e-3
        assert int(norms(network, group).argmin()) not in (2, 3, 7)

    @pytest.mark.parametrize("name", ["wrn10_1", "conv_pool2_50_mnist"])
    def test_they_rise_to_one(self, name: str) -> None:
        network, groups, images = made(name)
        readings = take_readings(network, groups, [images])
        for group in groups:
            shares = shares_lost(readings[group.name])
            assert shares.shape == (len(group.atoms),)
            assert float(shares.min()) >= 0
            assert float(shares.max()) == pytest.approx(1, abs=1e-6)
            assert len(set(shares.tolist())) == len(shares)

    def test_a_wide_group_loses_several_at_once(self) -> None:
        torch.manual_seed(0)
        network, group = hidden(600, 700)
        readings = take_readings(network, [group], [torch.randn(50, 6)])
        shares = shares_lost(readings[group.name])
        assert sorted(shares.tolist()) == shares[shares.argsort()].tolist()
        assert len(set(shares.tolist())) == 600

    def test_a_dead_channel_goes_first_and_costs_nothing(self) -> None:
        torch.manual_seed(0)
        network, group = hidden()
        with torch.no_grad():
            network[0].weight[4] = 0.0
            network[0].bias[4] = -1.0
        readings = take_readings(network, [group], [torch.randn(100, 6)])
        assert int(shares_lost(readings[group.name]).argmin()) == 4

    def test_energy_says_how_many_go(self) -> None:
        network, group = hidden(4)
        shares = torch.tensor([0.5, 0.001, 1.0, 0.02], dtype=torch.float64)
        for energy, gone in ((0.9995, []), (0.99, [1]), (0.9, [1, 3]), (0.01, [1, 3, 0])):
            lost = lost_by_energy([(group, shares)], energy, SlimOptions(least=0.0))
            assert lost == {group.name: gone}
        assert lost_by_energy([(group, shares)], 0.01, SlimOptions(least=0.75)) == {group.name: [1]}
        del network


class TestMending:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_without_a_double_no_output_changes(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both are read everywhere, through sums, groups and flattened maps; one takes over."""
        monkeypatch.setattr(readings_module, "ridge_share", lambda atoms, samples: 1e-8)
        network, groups, images = made(name)
        seen = 0
        for group in groups:
            makers = [one for one in group.members if one.side == "outputs"]
            convolutions = [
                one
                for one in makers
                if isinstance(network.get_submodule(one.layer), nn.Conv2d | nn.Linear)
            ]
            if (
                seen == 5
                or len(group.atoms) < 3
                or any(
                    getattr(network.get_submodule(one.layer), "groups", 1) > 1
                    for one in convolutions
                )
            ):
                continue
            torch.manual_seed(seen)
            whole = copy.deepcopy(network)
            copy_channel(whole, group, 0, 1, 1.0)
            readings = take_readings(whole, groups, [images])
            lost = {group.name: [1]}
            mended = copy.deepcopy(whole)
            mend(mended, groups, readings, lost)
            with torch.no_grad():
                expected = whole(images)
                found = without(mended, groups, lost)(images)
                unmended = without(whole, groups, lost)(images)
            scale = (unmended - expected).abs().max()
            assert (found - expected).abs().max() <= 0.01 * scale + 1e-5, group.name
            seen += 1
        assert seen >= 1

    @pytest.mark.parametrize("bias", [True, False])
    def test_no_other_weights_and_bias_are_closer(self, bias: bool) -> None:
        torch.manual_seed(0)
        network, group = hidden(bias=bias)
        images = torch.randn(4000, 6)
        lost = {group.name: [0, 5, 6]}
        readings = take_readings(network, [group], [images])
        with torch.no_grad():
            expected = network(images)
            values = torch.relu(network[0](images))
        kept = [one for one in range(12) if one not in lost[group.name]]
        inputs = values[:, kept]
        if bias:
            inputs = torch.cat([inputs, torch.ones(4000, 1)], 1)
        best = torch.linalg.lstsq(inputs, expected).solution
        least = (inputs @ best - expected).square().sum()
        with torch.no_grad():
            plain = (without(network, [group], lost)(images) - expected).square().sum()
            mend(network, [group], readings, lost)
            found = (without(network, [group], lost)(images) - expected).square().sum()
        assert least <= found * (1 + 1e-5)
        assert found <= 1.01 * least < 0.5 * plain

    def test_other_tensors_are_mended_alike(self) -> None:
        torch.manual_seed(0)
        network, group = hidden()
        readings = take_readings(network, [group], [torch.randn(100, 6)])
        averages = {name: p.detach().clone() for name, p in network.named_parameters()}
        del averages["2.bias"]
        before = network[2].weight.detach().clone()
        mend(network, [group], readings, {group.name: [3]}, averages)
        assert torch.equal(network[2].weight, before)
        mend(network, [group], readings, {group.name: [3]})
        assert torch.equal(network[2].weight, averages["2.weight"])
        assert not torch.equal(network[2].weight, before)


def test_values_that_are_not_finite() -> None:
    network, group = hidden()
    with pytest.raises(DataError, match="not finite"):
        take_readings(network, [group], [torch.full((3, 6), torch.nan)])


def test_a_reading_says_where_it_reads() -> None:
    network, groups, images = made("conv_pool2_50_mnist")
    found = take_readings(network, groups, [images])
    flattened = [one for group in groups for one in found[group.name] if one.positions.shape[1] > 1]
    assert flattened
    assert all(isinstance(one, Reading) for one in flattened)
    layer = network.get_submodule(flattened[0].layer)
    assert flattened[0].positions.flatten().sort().values.tolist() == [*range(layer.in_features)]
