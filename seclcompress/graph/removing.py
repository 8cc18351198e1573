"""Losing channels of groups: which positions each layer keeps, and doing it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from seclcompress.graph.groups import Group, Member, Side
from seclcompress.narrowing import Kept, Widths, narrow, widths_of
from seclcompress.torch_private import ConvNd


def kept_by_layer(
    network: nn.Module, groups: Sequence[Group], lost: Mapping[str, Sequence[int]]
) -> dict[str, Kept]:
    """What each layer keeps when groups lose atoms.

    Args:
        network: The network.
        groups: Its groups.
        lost: Numbers of the atoms that are lost, by the group's name; at least one atom must stay.

    Returns:
        What is kept, by the name of each layer that loses something.
    """
    gone = _gone(groups, lost)
    kept = {}
    for name in dict.fromkeys(member.layer for member in gone):
        layer = network.get_submodule(name)
        sides: tuple[Side, Side] = ("inputs", "outputs")
        inputs, outputs = (
            _without(width, gone.get(Member(name, side), set()))
            for width, side in zip(widths_of(layer), sides, strict=True)
        )
        one_side = not isinstance(layer, ConvNd | nn.Linear)  # a normalisation has outputs only
        kept[name] = Kept(outputs if one_side else inputs, outputs)
    return kept


def _gone(groups: Sequence[Group], lost: Mapping[str, Sequence[int]]) -> dict[Member, set[int]]:
    """The positions that each side of a layer loses, in running order of the groups."""
    gone: dict[Member, set[int]] = {}
    for group in groups:
        for number in lost.get(group.name, ()):
            for member, positions in zip(group.members, group.atoms[number], strict=True):
                gone.setdefault(member, set()).update(positions)
    return gone


def _without(width: int, lost: set[int]) -> torch.Tensor:
    return torch.tensor([position for position in range(width) if position not in lost])


def narrow_network(network: nn.Module, kept: Mapping[str, Kept]) -> nn.Module:
    """Narrows a network's layers in place; returns the same network."""
    for name, what in kept.items():
        narrow(network.get_submodule(name), what)
    return network


def narrowed_widths(network: nn.Module, names: Mapping[str, object]) -> dict[str, Widths]:
    """The widths of layers of a network, by name."""
    return {name: widths_of(network.get_submodule(name)) for name in names}


def renumbered(
    groups: Sequence[Group], lost: Mapping[str, Sequence[int]]
) -> tuple[list[Group], list[torch.Tensor | None]]:
    """Groups as they are after their layers lost atoms: positions count in the narrower layers.

    Args:
        groups: All groups of the network.
        lost: Numbers of the lost atoms by the group's name.

    Returns:
        The groups, and for each the numbers of its kept atoms; None where it loses nothing.
    """
    gone = {member: sorted(positions) for member, positions in _gone(groups, lost).items()}
    found: list[Group] = []
    kept: list[torch.Tensor | None] = []
    for group in groups:
        out = set(lost.get(group.name, ()))
        stays = [number for number in range(len(group.atoms)) if number not in out]
        kept.append(torch.tensor(stays) if out else None)
        atoms = tuple(
            tuple(
                tuple(position - bisect_left(gone.get(member, ()), position) for position in own)
                for member, own in zip(group.members, group.atoms[number], strict=True)
            )
            for number in stays
        )
        found.append(Group(group.name, group.members, atoms))
    return found, kept
