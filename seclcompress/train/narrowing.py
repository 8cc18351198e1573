"""Narrows a network in the middle of its training: its optimizers and averages lose what it loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from seclcompress.graph import narrow_network
from seclcompress.narrowing import Kept, narrow
from seclcompress.torch_private import twin_of

#: For a tensor of a network, the positions in the flattened old one of what the new one holds, in its
#: shape.
Places = dict[str, Tensor]


def places_of(network: nn.Module, kept: Mapping[str, Kept]) -> Places:
    """What narrowing leaves of parameters and buffers, by their names, without doing it.

    Each layer's tensors are replaced by the numbers of their elements in a copy, which is narrowed. So
    `narrowing.narrow` alone knows what a layer loses.
    """
    found: Places = {}
    for name, what in kept.items():
        layer = network.get_submodule(name)
        twin = twin_of(layer, _numbers)
        narrow(twin, what)
        left = {
            **dict(twin.named_parameters(recurse=False)),
            **dict(twin.named_buffers(recurse=False)),
        }
        found |= {f"{name}.{key}": value.detach() for key, value in left.items()}
    return found


def _numbers(tensor: Tensor) -> Tensor:
    return torch.arange(tensor.numel()).reshape(tensor.shape)


def narrow_trained(
    network: nn.Module,
    kept: Mapping[str, Kept],
    optimizers: Sequence[torch.optim.Optimizer],
    averages: dict[str, Tensor],
) -> None:
    """Narrows a network, and with its parameters what optimizers and averages remember of them.

    Args:
        network: The network; layers are narrowed in place.
        kept: What they keep, by their names.
        optimizers: Its optimizers.
        averages: Moving averages by the names of parameters and buffers.
    """
    before = dict(network.named_parameters())
    places = places_of(network, kept)
    narrow_network(network, kept)
    after = dict(network.named_parameters())
    for name, there in places.items():
        if name in before:
            replace(optimizers, before[name], after[name], there)
        if name in averages:
            averages[name] = taken(averages[name], there)


def taken(tensor: Tensor, places: Tensor) -> Tensor:
    """What a tensor holds at some places of its flattened self."""
    return tensor.flatten()[places.to(tensor.device)]


def replace(
    optimizers: Sequence[torch.optim.Optimizer],
    old: nn.Parameter,
    new: nn.Parameter,
    places: Tensor,
) -> None:
    """Puts a parameter in the place of another one, of which it holds a part.

    Args:
        optimizers: The optimizers, one of which may have the old one.
        old: The parameter that is replaced.
        new: The new one.
        places: The positions in the old one of what it holds, in the new one's shape.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [new if each is old else each for each in group["params"]]
        state = optimizer.state.pop(old, None)
        if state is not None:
            optimizer.state[new] = {
                slot: taken(value, places)
                if isinstance(value, Tensor) and value.shape == old.shape
                else value
                for slot, value in state.items()
            }
