"""Trying groups: a network that lost a channel of each must run, and all channels meet as before."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from seclcompress.graph.following import Followed, follow
from seclcompress.graph.groups import Group
from seclcompress.graph.removing import kept_by_layer, narrow_network
from seclcompress.trace import copied_network


def first_failures(
    network: nn.Module,
    input_size: tuple[int, ...],
    followed: Followed,
    groups: Sequence[Group],
    time_limit: float,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, str]:
    """Finds the groups that cannot be narrowed, by narrowing all, then halves of those that fail.

    Args:
        network: The network.
        input_size: (channels, *spatial).
        followed: What its run has shown.
        groups: The groups to try. Each loses its first atom.
        time_limit: Seconds; groups that are not settled by then count as failed.
        progress: Told how many groups are settled, and of how many.

    Returns:
        The reasons by the groups' names.
    """
    ends = time.monotonic() + time_limit
    failures: dict[str, str] = {}
    settled: list[Group] = []
    waiting = [list(groups)] if groups else []
    while waiting:
        some = waiting.pop()
        # What is settled is narrowed as well, because two groups may be right only apart.
        reason = (
            "there was no time to try it"
            if time.monotonic() > ends
            else why_not(network, input_size, followed, [*settled, *some])
        )
        if reason is None:
            settled += some
        elif len(some) == 1 or time.monotonic() > ends:
            failures |= {group.name: reason for group in some}
        else:
            half = len(some) // 2
            waiting += [some[half:], some[:half]]
        if progress is not None:
            progress(len(settled) + len(failures), len(groups))
    return failures


def why_not(
    network: nn.Module,
    input_size: tuple[int, ...],
    followed: Followed,
    groups: Sequence[Group],
    lost: Mapping[str, Sequence[int]] | None = None,
) -> str | None:
    """Why a network cannot lose channels, or None: it runs, and the same channels meet as before.

    Args:
        network: The network; it stays as it is.
        input_size: (channels, *spatial).
        followed: What its run has shown.
        groups: The groups that lose atoms.
        lost: Numbers of the lost atoms by group; by default each group's first.
    """
    lost = lost or {group.name: [0] for group in groups}
    copied = copied_network(network, torch.device("meta"))
    kept = kept_by_layer(copied, groups, lost)
    narrow_network(copied, kept)
    expected = Followed(followed.atoms, followed.sides)
    for name, what in kept.items():
        inputs, outputs = followed.sides[name]
        expected.sides[name] = inputs[what.inputs], outputs[what.outputs]
    followed.atoms.frozen = True
    try:
        follow(copied, input_size, expected, train=False)
    except Exception as error:  # a ConflictError, or whatever the network raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"narrowed by a channel, it does not run as before: {lines[0]}"
    finally:
        followed.atoms.frozen = False
    return None


def why_not_together(
    network: nn.Module,
    input_size: tuple[int, ...],
    groups: Sequence[Group],
    lost: Mapping[str, Sequence[int]],
) -> str | None:
    """Why a network cannot lose a whole choice of channels, or None: it runs as before without them.

    Args:
        network: The network; it stays as it is.
        input_size: (channels, *spatial).
        groups: The groups that `channel_groups` found.
        lost: Numbers of the lost atoms by the group's name.
    """
    followed = Followed()
    follow(network, input_size, followed, train=False)
    return why_not(network, input_size, followed, groups, lost)
