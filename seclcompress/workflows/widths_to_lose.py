"""Which channels a network could lose, and whether a budget can be met so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from seclcompress import substitutions
from seclcompress.count import count_network
from seclcompress.errors import NetworkError, PlanError
from seclcompress.graph import Channels, Group, channel_groups
from seclcompress.observer import Observer
from seclcompress.plan import make_plan
from seclcompress.resolve import Located
from seclcompress.settings.budget import Budget
from seclcompress.settings.planning import PlanOptions
from seclcompress.settings.slimming import SlimOptions
from seclcompress.slim import (
    Figures,
    Lost,
    Width,
    fewest_lost,
    losses,
    lost_by_energy,
    meets,
    readers,
)
from seclcompress.trace import Trace


def find_channels(located: Located, skeleton: nn.Module, observer: Observer) -> Channels:
    """Finds the groups of channels that a network can lose.

    Args:
        located: The network, for messages and its input size.
        skeleton: It, without values.
        observer: Receives the progress.

    Raises:
        NetworkError: If it cannot lose any.
    """
    with observer.counting("Trying which channels can be lost", 1) as told:
        found = channel_groups(skeleton, located.input_size, progress=told)
    if not found.groups:
        reasons = "; ".join(sorted(set(found.fixed.values()))[:3])
        raise NetworkError(f"No channel of {located.label} can be lost: {reasons}.")
    return found


def counting_rewritten(options: SlimOptions) -> Callable[[nn.Module, Trace], Figures]:
    """Counts what a narrowed network will have when it is rewritten.

    Args:
        options: How channels are chosen; `rewritten_as` names the family.

    Returns:
        A function of the narrowed network and its trace, see `slim.figures_of`.

    Raises:
        UsageError: If there is no such family.
    """
    assert options.rewritten_as is not None
    substitutions.configured(options.rewritten_as, {})
    planning = PlanOptions(substitution=options.rewritten_as)

    def count(network: nn.Module, trace: Trace) -> Figures:
        plan = make_plan(network, trace, planning, may_be_empty=True)
        totals = count_network(network, trace, plan).column("auto")
        return Figures(totals.parameters, totals.mult_adds)

    return count


def check_not_met(located: Located, figures: Figures, budget: Budget, options: SlimOptions) -> None:
    """Refuses a budget that a network meets as it is, or as it is rewritten.

    Raises:
        PlanError: If it does.
    """
    if meets(figures, budget):
        how = f"rewritten as {options.rewritten_as}" if options.rewritten_as else "as it is"
        raise PlanError(
            f"{located.label} meets the budget {how} ({budget}): nothing is to be lost."
        )


def check_reachable(
    located: Located, budget: Budget, smallest: Figures, options: SlimOptions
) -> None:
    """Refuses a budget that a network cannot meet by losing channels.

    Args:
        located: The network.
        budget: The budget.
        smallest: What it has when every group has lost all that it may.
        options: How channels are chosen.

    Raises:
        PlanError: If it cannot.
    """
    if meets(smallest, budget):
        return
    held = "; ".join(
        str(one)
        for one in budget.held(smallest.parameters, smallest.mult_adds)
        if one.has > one.most
    )
    then = f" when it is rewritten as {options.rewritten_as}" if options.rewritten_as else ""
    raise PlanError(
        f"{located.label} cannot meet the budget by losing channels: with a share of {options.least} of "
        f"each group's it has {held}{then}. Ask for less, or lower --least; `convert` what is left for "
        "more."
    )


def choose_lost(
    located: Located,
    weighed: Sequence[tuple[Group, Tensor]],
    measure: Callable[[Lost], Figures],
    budget: Budget | None,
    options: SlimOptions,
) -> tuple[Lost, Figures]:
    """What a network loses at once: the least that a budget allows, or what a share of energy does.

    Args:
        located: The network, for messages.
        weighed: The groups with what their atoms weigh.
        measure: What the network has without some atoms.
        budget: The budget, which can be met; None where `options.energy` decides.
        options: How channels are chosen.

    Returns:
        What is lost, and what the network has then.

    Raises:
        PlanError: If nothing can be lost for this share of energy.
    """
    if budget is not None:
        steps, after = losses(weighed, options)
        return fewest_lost(steps, after, measure, budget)
    assert options.energy is not None
    lost = lost_by_energy(weighed, options.energy, options)
    if not any(lost.values()):
        raise PlanError(
            f"{located.label} needs all its channels for a share of {options.energy} of their energy: "
            "nothing is to be lost. Lower --energy or --least, or give a --budget."
        )
    return lost, measure(lost)


def smallest_of(
    groups: Sequence[Group], measure: Callable[[Lost], Figures], options: SlimOptions
) -> Figures:
    """What a network has when every group has lost all that it may.

    Args:
        groups: The groups that can lose something by this method.
        measure: What the network has without some atoms.
        options: How channels are chosen.
    """
    steps, after = losses([(one, torch.ones(len(one.atoms))) for one in groups], options)
    return measure(after(steps))


def that_can_lose(network: nn.Module, groups: Sequence[Group], options: SlimOptions) -> list[Group]:
    """The groups that can lose something by a method: for some, weights must read them one by one."""
    return [one for one in groups if not options.needs_readers or readers(network, one)]


def widths_left(groups: Sequence[Group], left: Mapping[str, int]) -> tuple[Width, ...]:
    """The groups before and after they lost atoms.

    Args:
        groups: The groups as they were.
        left: How many atoms each has left, by its name; all of a group that is not named.
    """
    return tuple(
        Width(
            group.name,
            len({member.layer for member in group.members}),
            group.width,
            group.step * left.get(group.name, len(group.atoms)),
        )
        for group in groups
    )
