"""Losing as few channels as a budget allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from seclcompress.graph import Group, kept_by_layer, narrow_network
from seclcompress.settings.budget import Budget
from seclcompress.settings.slimming import SlimOptions
from seclcompress.trace import Trace, copied_network, trace_network

#: Numbers of the atoms that each group loses, by the group's name.
Lost = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Figures:
    """What a network has.

    Attributes:
        parameters: Trainable values.
        mult_adds: Mult-Adds per image.
    """

    parameters: int
    mult_adds: int


#: What counts of a narrowed network, given it without values, and its trace.
Counting = Callable[[nn.Module, Trace], Figures]


def as_it_is(network: nn.Module, trace: Trace) -> Figures:
    """What a network has."""
    return Figures(sum(p.numel() for p in network.parameters()), trace.total_mult_adds)


def figures_of(
    network: nn.Module,
    input_size: tuple[int, ...],
    groups: Sequence[Group],
    lost: Lost,
    counting: Counting = as_it_is,
) -> Figures:
    """What a network has without some of its channels; the network stays as it is.

    Args:
        network: The network, or its skeleton.
        input_size: (channels, *spatial).
        groups: Its groups of channels.
        lost: What they lose.
        counting: What counts of the narrowed network.
    """
    copied = copied_network(network, torch.device("meta"))
    narrow_network(copied, kept_by_layer(copied, groups, lost))
    return counting(copied, trace_network(copied, input_size))


def figures_without(
    network: nn.Module,
    input_size: tuple[int, ...],
    groups: Sequence[Group],
    counting: Counting = as_it_is,
) -> Callable[[Lost], Figures]:
    """A function that says what a network has without some of its channels, see `figures_of`.

    Each answer is kept, because every one takes a trace.
    """
    known: dict[tuple[tuple[str, tuple[int, ...]], ...], Figures] = {}

    def measure(lost: Lost) -> Figures:
        key = tuple(sorted((name, tuple(sorted(atoms))) for name, atoms in lost.items() if atoms))
        if key not in known:
            known[key] = figures_of(network, input_size, groups, lost, counting)
        return known[key]

    return measure


def may_lose(group: Group, least: float, originally: int | None = None) -> int:
    """How many atoms a group can lose if a share of them stays; at least one does.

    Args:
        group: The group.
        least: The share that stays.
        originally: How many atoms it had at first; None for as many as it has.
    """
    has = len(group.atoms)
    return max(0, has - max(1, math.ceil(least * (has if originally is None else originally))))


def _orders(
    weighed: Sequence[tuple[Group, Tensor]],
    options: SlimOptions,
    originally: Mapping[str, int] | None,
) -> dict[str, list[int]]:
    """The atoms that each group may lose, the least first, by the group's name."""
    had = originally or {}
    return {
        group.name: weights.argsort(stable=True).tolist()[
            : may_lose(group, options.least, had.get(group.name))
        ]
        for group, weights in weighed
    }


def losses(
    weighed: Sequence[tuple[Group, Tensor]],
    options: SlimOptions,
    originally: Mapping[str, int] | None = None,
) -> tuple[int, Callable[[int], Lost]]:
    """The ways to lose channels, from none to as many as may be lost.

    Args:
        weighed: The groups with the norms of their atoms.
        options: How channels are chosen.
        originally: How many atoms each group had at first, by its name, where some are lost already.

    Returns:
        The number of steps, and what is lost after some of them; a later step loses all that an earlier
        one does.
    """
    orders = _orders(weighed, options, originally)
    if options.spread == "uniform":
        steps = max((len(order) for order in orders.values()), default=0)
        return steps, lambda step: {
            name: order[: round(len(order) * step / max(steps, 1))]
            for name, order in orders.items()
        }
    ranked = sorted(
        (float(weights[number]), place, number)
        for place, (group, weights) in enumerate(weighed)
        for number in orders[group.name]
    )
    names = [group.name for group, _ in weighed]

    def after(step: int) -> Lost:
        lost: dict[str, list[int]] = {name: [] for name in names}
        for _, place, number in ranked[:step]:
            lost[names[place]].append(number)
        return lost

    return len(ranked), after


def lost_by_energy(
    weighed: Sequence[tuple[Group, Tensor]],
    energy: float,
    options: SlimOptions,
    originally: Mapping[str, int] | None = None,
) -> Lost:
    """What can be lost so that each group keeps a share of what its readers make.

    Args:
        weighed: The groups with the shares that are lost with their atoms (`slim.shares_lost`).
        energy: The share that stays.
        options: How channels are chosen.
        originally: As in `losses`.
    """
    orders = _orders(weighed, options, originally)
    return {
        group.name: [number for number in orders[group.name] if shares[number] <= 1 - energy]
        for group, shares in weighed
    }


def excess(figures: Figures, budget: Budget) -> float:
    """How many times too large a network is: at most 1 if it meets the budget."""
    return max(held.has / held.most for held in budget.held(figures.parameters, figures.mult_adds))


def meets(figures: Figures, budget: Budget) -> bool:
    """Whether a network has no more than a budget allows."""
    return excess(figures, budget) <= 1


def fewest_lost(
    steps: int,
    after: Callable[[int], Lost],
    measure: Callable[[Lost], Figures],
    budget: Budget,
    times: float = 1.0,
) -> tuple[Lost, Figures]:
    """Finds the first step after which a budget is met.

    Both figures fall from step to step, so that halving finds it.

    Args:
        steps: The number of steps. After the last one the budget is met.
        after: What is lost after some of them.
        measure: What the network has then.
        budget: The budget.
        times: What its limits are multiplied by.
    """
    figures = cache(lambda step: measure(after(step)))
    low, high = 0, steps
    while low < high:
        middle = (low + high) // 2
        if excess(figures(middle), budget) <= times:
            high = middle
        else:
            low = middle + 1
    return after(high), figures(high)
