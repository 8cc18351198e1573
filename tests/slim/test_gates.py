"""Gates: they change nothing until a price presses, closed ones can be lost, folding changes nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from joined_channels import NETWORKS, made
from torch import nn

from seclcompress.graph import kept_by_layer, narrow_network, renumbered
from seclcompress.slim import (
    EdgeGates,
    Gates,
    OpenGates,
    attach,
    detach,
    figures_of,
    norms,
)
from seclcompress.slim.pressure import Times, first_price, goal, next_price, prices

SIZE = (3, 16, 16)


def gates_of(kind: str, network: nn.Module, groups: Any) -> Gates:
    weights = [norms(network, group) for group in groups]
    return OpenGates(groups, 0.1, weights) if kind == "gates" else EdgeGates(groups, 0.1, weights)


def close_some(gates: Gates) -> None:
    """Closes half of the gates of each group."""
    with torch.no_grad():
        if isinstance(gates, OpenGates):
            for value in gates.values:
                value[: len(value) // 2] = -0.1
        else:
            assert isinstance(gates, EdgeGates)
            for edge in gates.edges:
                edge.fill_(0.5)


@pytest.mark.parametrize("name", NETWORKS)
def test_they_change_nothing_and_fold_away(name: str) -> None:
    network, groups, images = made(name)
    expected = network(images)
    keys = {*network.state_dict()}
    attach(network, groups, gates_of("gates", network, groups), divide=True)
    assert torch.allclose(network(images), expected, atol=1e-5)
    detach(network, fold=True)
    assert torch.allclose(network(images), expected, atol=1e-5)
    assert {*network.state_dict()} == keys


@pytest.mark.parametrize("kind", ["gates", "sigmoid"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_channel_with_a_closed_gate_can_be_lost(name: str, kind: str) -> None:
    network, groups, images = made(name)
    gates = gates_of(kind, network, groups)
    attach(network, groups, gates, divide=kind == "gates")
    close_some(gates)
    expected = network(images)
    closed = gates.closed()
    assert any(closed)
    assert all(len(each) < len(group.atoms) for each, group in zip(closed, groups, strict=True))
    lost = {group.name: each for group, each in zip(groups, closed, strict=True)}
    detach(network, fold=False)
    narrow_network(network, kept_by_layer(network, groups, lost))
    left, kept = renumbered(groups, lost)
    gates.lose(kept)
    attach(network, left, gates)
    # The sigmoid's closed gates are small, not zero.
    assert torch.allclose(network(images), expected, atol=1e-5 if kind == "gates" else 1e-2)
    assert not any(gates.closed())
    detach(network, fold=True)
    assert torch.allclose(network(images), expected, atol=1e-5 if kind == "gates" else 1e-2)


def test_gradients_reach_the_gates_and_the_weights() -> None:
    network, groups, images = made("wrn10_1")
    gates = gates_of("gates", network, groups)
    attach(network, groups, gates, divide=True)
    network(images).square().sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
    # dL/dg = Σ W · dL/d(W g), by the weights that read the channel.
    assert all(value.grad.abs().sum() > 0 for value in gates.parameters())


class TestPressing:
    def groups(self) -> Any:
        network, groups, _ = made("wrn10_1")
        return network, groups

    def test_a_price_closes_the_weakest_first_and_leaves_some(self) -> None:
        network, groups = self.groups()
        gates = gates_of("gates", network, groups)
        weights = [value.detach().clone() for value in gates.values]
        even = [torch.ones_like(weight) for weight in weights]
        gates.press(0.3, even)
        for weight, closed in zip(weights, gates.closed(), strict=True):
            order = weight.argsort().tolist()
            assert set(closed) == set(order[: len(closed)])
        for _ in range(200):
            gates.press(10.0, even)
        for group, closed in zip(groups, gates.closed(), strict=True):
            assert len(group.atoms) - len(closed) == max(1, -(-len(group.atoms) // 10))

    def test_the_gates_that_stay_open_keep_their_mean(self) -> None:
        """And not the sum of all, which would make a few that are left as strong as all were."""
        network, groups = self.groups()
        gates = gates_of("gates", network, groups)
        before = [value.detach().clone() for value in gates.parameters()]
        gates.press(0.9, [torch.ones_like(value) for value in before])
        closed = gates.closed()
        assert any(closed)
        for was, factor in zip(before, gates.factors(), strict=True):
            stays = factor > 0
            assert factor[stays].mean().item() == pytest.approx(was[stays].mean().item(), rel=1e-4)

    def test_plain_l1_lowers_all(self) -> None:
        _, groups = self.groups()
        gates = OpenGates(groups, 0.1, compete=False)
        gates.press(0.25, [torch.ones(len(group.atoms)) for group in groups])
        for factor in gates.factors():
            assert torch.allclose(factor, torch.full_like(factor, 0.75))

    def test_an_edge_moves_left_and_stops(self) -> None:
        network, groups = self.groups()
        gates = gates_of("sigmoid", network, groups)
        assert not any(gates.closed())
        even = [torch.ones(len(group.atoms)) for group in groups]
        sums = [sum(factor.sum().item() for factor in gates.factors())]
        for _ in range(300):
            gates.press(0.5, even)
            sums.append(sum(factor.sum().item() for factor in gates.factors()))
        assert sums == sorted(sums, reverse=True)
        for group, closed in zip(groups, gates.closed(), strict=True):
            assert 1 <= len(group.atoms) - len(closed) < len(group.atoms)

    def test_what_was_closed_too_early_can_be_trained_again(self) -> None:
        network, groups = self.groups()
        gates = gates_of("gates", network, groups)
        close_some(gates)
        gates.reopen()
        assert not any(gates.closed())


class TestPressure:
    @given(st.floats(1.0, 100.0), st.floats(0, 1), st.floats(0, 1))
    def test_the_goal_falls_to_one(self, start: float, early: float, late: float) -> None:
        early, late = sorted((early, late))
        assert goal(start, 0) == pytest.approx(start)
        assert goal(start, 1) == 1
        assert goal(start, early) >= goal(start, late) - 1e-9

    @given(st.integers(1, 10_000), st.floats(0.01, 1), st.integers(1, 50))
    def test_rounds_start_once_each_from_the_first_step_on(
        self, steps: int, until: float, rounds: int
    ) -> None:
        times = Times(steps, until)
        starts = [times.starts_round(step, rounds) for step in range(min(steps, times.losing) + 1)]
        found = [number for number in starts if number is not None]
        assert times.losing < steps
        assert starts[0] is not None
        assert found == sorted(set(found))
        assert found[-1] == rounds

    def test_a_price_rises_while_the_network_is_too_large(self) -> None:
        assert next_price(1.0, 2.0, 1.5) > 1 > next_price(1.0, 1.5, 2.0)
        assert first_price(0.1, 100) * 0.1 * 100 == pytest.approx(1)

    @pytest.mark.parametrize("by", ["channels", "parameters", "mult-adds"])
    def test_prices_are_one_in_the_mean(self, by: Any) -> None:
        network, groups, _ = made("wrn10_1")
        found = prices(groups, partial(figures_of, network, (3, 32, 32), groups), by)
        assert torch.cat(found).mean().item() == pytest.approx(1)
        # In a residual network each stage has twice the channels at a quarter of the positions.
        inner = {group.name: float(price[0]) for group, price in zip(groups, found, strict=True)}
        first, last = inner["group1.0.conv1"], inner["group3.0.conv1"]
        assert (first == last) == (by == "channels")
        assert (first < last) == (by == "parameters")
