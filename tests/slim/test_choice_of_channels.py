"""Which channels are lost: their norms, the order, and no more of them than a budget asks for."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seclcompress.graph import Group, Member
from seclcompress.settings.budget import Budget
from seclcompress.settings.slimming import SlimOptions
from seclcompress.slim import Figures, Lost, fewest_lost, losses, meets, norms


def single(name: str, width: int, *members: Member) -> Group:
    return Group(name, members, tuple(((n,),) * len(members) for n in range(width)))


def test_norms_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2), nn.Linear(2, 1))
    with torch.no_grad():
        network[0].weight.copy_(
            torch.tensor([3.0, 1.0]).reshape(2, 1, 1, 1)
        )  # means 2: 1.5 and 0.5
        network[1].weight.copy_(torch.tensor([1.0, 3.0]))  # 0.5 and 1.5
        network[2].weight.copy_(torch.tensor([[0.0, -4.0]]))  # 0 and 2
    group = single("0", 2, Member("0", "outputs"), Member("1", "outputs"), Member("2", "inputs"))
    assert norms(network, group).tolist() == [(1.5 + 0.5 + 0) / 3, (0.5 + 1.5 + 2) / 3]


def test_norms_of_several_channels_and_of_groups() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2, bias=False), nn.ConvTranspose2d(4, 2, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8]).reshape(4, 2, 1, 1))
        network[1].weight.fill_(1)
    members = (Member("0", "outputs"), Member("0", "inputs"), Member("1", "inputs"))
    group = Group("0", members, (((0, 1),) * 3, ((2, 3),) * 3))
    own = torch.tensor([1.0 + 4 + 9 + 16, 25 + 36 + 49 + 64], dtype=torch.float64).sqrt()
    assert torch.equal(norms(network, group), (own / own.mean() + 1) / 2)


def test_a_group_of_zeros_has_equal_norms() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    nn.init.zeros_(network[0].weight)
    assert norms(network, single("0", 2, Member("0", "outputs"))).tolist() == [1, 1]


weights = st.lists(st.floats(0, 10, width=32), min_size=2, max_size=12)


@given(
    st.lists(weights, min_size=1, max_size=4),
    st.floats(0, 1),
    st.sampled_from(["global", "uniform"]),
)
def test_steps(groups: list[list[float]], least: float, spread: str) -> None:
    weighed = [
        (single(str(n), len(own), Member(str(n), "outputs")), torch.tensor(own))
        for n, own in enumerate(groups)
    ]
    options = SlimOptions(spread=spread, least=least)  # type: ignore[arg-type]
    steps, after = losses(weighed, options)
    before: Lost = after(0)
    assert not any(before.values())
    for step in range(1, steps + 1):
        lost = after(step)
        for group, own in weighed:
            gone = lost[group.name]
            assert set(before[group.name]) <= set(gone)
            stay = [float(w) for n, w in enumerate(own) if n not in gone]
            assert len(stay) >= max(1, least * len(own) - 1e-9)
            assert all(float(own[n]) <= min(stay) for n in gone)
        before = lost


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 2000))
def test_no_channel_more_than_needed(sizes: list[int], limit: int) -> None:
    budget = Budget(parameters=limit)

    def measure(lost: Lost) -> Figures:
        return Figures(sum(sizes) - sum(sizes[n] for n in lost["a"]) + 1, 0)

    def after(step: int) -> Lost:
        return {"a": [*range(step)]}

    lost, figures = fewest_lost(len(sizes), after, measure, budget)
    assert figures == measure(lost)
    assert meets(figures, budget)
    if lost["a"]:
        assert not meets(measure(after(len(lost["a"]) - 1)), budget)
