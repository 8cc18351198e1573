"""Gives a network gates, and takes them off again.

A gate multiplies the weights that read its channel, in every layer that does. So no activation is kept
for its gradient, and folding the gates away in the end changes nothing. (The journal of the sparsifier
networks multiplied the activations, and found that they take twice the memory so.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seclcompress.graph import Group
from seclcompress.narrowing import groups_of, widths_of
from seclcompress.slim.gates import Gates
from seclcompress.torch_private import ConvTransposeNd


class _Gated(nn.Module):
    """The weight of a layer that reads gated channels, times their gates.

    One of a network's layers has the gates as a module below it. The network itself has not: its code
    may run through its modules, as `nn.Sequential` does.
    """

    def __init__(self, gates: Gates, index: Tensor, dimension: int, *, owns: bool) -> None:
        super().__init__()
        self._gates = (gates,)  # in a tuple, which is no module
        if owns:
            self.gates = gates
        self._dimension = dimension
        self.register_buffer("index", index, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        index: Tensor = self.index  # type: ignore[assignment]
        factor = self._gates[0].all_factors()[index].to(weight.dtype)
        return weight * _along(factor, weight, self._dimension)


def _along(factor: Tensor, weight: Tensor, dimension: int) -> Tensor:
    """A factor for each position of one dimension of a weight, in a shape that multiplies it."""
    return factor.reshape([-1 if axis == dimension else 1 for axis in range(weight.dim())])


def readers(network: nn.Module, group: Group) -> list[int]:
    """The members of a group whose weights read its channels, by their places among the members.

    A layer with groups makes as many channels of the group as it reads; the layers behind it read those.
    """
    return [
        place
        for place, member in enumerate(group.members)
        if member.side == "inputs" and groups_of(network.get_submodule(member.layer)) == 1
    ]


def input_dimension(layer: nn.Module) -> int:
    """The dimension of a layer's weight that stands for its inputs."""
    return 0 if isinstance(layer, ConvTransposeNd) else 1


def attach(
    network: nn.Module, groups: Sequence[Group], gates: Gates, *, divide: bool = False
) -> None:
    """Gives a network gates, which are then a part of its parameters, and of its `state_dict`.

    Args:
        network: The network; changed in place.
        groups: The groups of the gates; each has a reader.
        gates: Their gates.
        divide: Whether the weights are divided by the gates, so that the outputs stay the same.
    """
    device = next(network.parameters()).device
    gates.to(device)
    index: dict[str, Tensor] = {}
    first = 1
    for group in groups:
        for place in readers(network, group):
            name = group.members[place].layer
            own = index.setdefault(
                name,
                torch.zeros(widths_of(network.get_submodule(name))[0], dtype=torch.long),
            )
            for number, atom in enumerate(group.atoms):
                own[list(atom[place])] = first + number
        first += len(group.atoms)
    for number, (name, own) in enumerate(index.items()):
        layer = network.get_submodule(name)
        dimension = input_dimension(layer)
        if divide:
            _divide(layer, gates.all_factors()[own.to(device)], dimension)
        parametrize.register_parametrization(
            layer,
            "weight",
            _Gated(gates, own.to(device), dimension, owns=number == 0),
            unsafe=True,
        )


@torch.no_grad()
def _divide(layer: nn.Module, factor: Tensor, dimension: int) -> None:
    weight: Tensor = layer.weight  # type: ignore[assignment]
    weight.div_(_along(factor, weight, dimension))


def detach(network: nn.Module, *, fold: bool) -> None:
    """Takes the gates off a network again.

    Args:
        network: The network; changed in place.
        fold: Whether the weights are multiplied by the gates, so that the outputs stay the same;
            otherwise the layers have their own weights as parameters again.
    """
    for module in [*network.modules()]:
        if parametrize.is_parametrized(module, "weight") and any(
            isinstance(each, _Gated)
            for each in module.parametrizations["weight"]  # type: ignore[index]
        ):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=fold)
