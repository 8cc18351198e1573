"""How much a channel weighs: the L2 norm of all weights that make it, scale it or read it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seclcompress.graph import Group, Member
from seclcompress.narrowing import groups_of
from seclcompress.torch_private import ConvNd, ConvTransposeNd


def norms(network: nn.Module, group: Group) -> Tensor:
    """The norms of a group's atoms.

    A layer's weights are measured against those of its other channels in the group, so that groups, and
    the layers of one group, can be compared: the norm of an atom in a layer is divided by the mean over
    the group's atoms, and the layers' quotients are averaged. (This is the group norm of structured
    pruning; G. Fang et al., "DepGraph", 2023, equation 5, with their normalisation by the mean.)

    Args:
        network: The network with its weights.
        group: A group of its channels.

    Returns:
        One number for each atom, of shape (atoms,); their mean is 1. All are 1 if no weight belongs to
        the group, or all are zero.
    """
    found = []
    for number, member in enumerate(group.members):
        squares = _squares(network.get_submodule(member.layer), member)
        if squares is None:
            continue
        own = torch.stack([squares[list(atom[number])].sum() for atom in group.atoms]).sqrt()
        mean = own.mean()
        found.append(own / mean if mean > 0 else torch.ones_like(own))
    if not found:
        return torch.ones(len(group.atoms))
    return torch.stack(found).mean(0)


def _squares(layer: nn.Module, member: Member) -> Tensor | None:
    """Sums of squared weights for each channel of a layer's side; None where they are counted elsewhere.

    With groups, a channel's inputs and outputs have the same weights, which count as its outputs'.
    """
    weight = getattr(layer, "weight", None)
    if weight is None:
        return None
    squares = weight.detach().double().square()
    if not isinstance(layer, ConvNd | nn.Linear):
        return squares
    if groups_of(layer) > 1:
        if member.side == "inputs":
            return None
        if isinstance(layer, ConvTransposeNd):  # (inputs, outputs of a group, …)
            size = layer.in_channels // layer.groups
            sums = squares.flatten(2).sum(2).reshape(layer.groups, size, -1).sum(1)
            return sums.flatten()
        return squares.flatten(1).sum(1)
    rows = (member.side == "outputs") != isinstance(layer, ConvTransposeNd)
    return squares.sum(
        [dimension for dimension in range(squares.dim()) if dimension != (0 if rows else 1)]
    )
