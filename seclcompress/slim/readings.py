"""Second moments of the channels that layers read, over pictures and places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seclcompress.errors import DataError
from seclcompress.graph import Group
from seclcompress.moments import Moments
from seclcompress.narrowing import channel_axis
from seclcompress.slim.attaching import input_dimension, readers
from seclcompress.torch_private import ConvTransposeNd
from seclcompress.trace import eval_mode, floating_dtype

_RIDGE = 1e-4  # the least one, so that dead channels have an inverse


@dataclass(frozen=True)
class Reading:
    """What one layer reads of a group's channels.

    Attributes:
        layer: The layer's name.
        positions: For each atom its inputs in the layer; int64, of shape (atoms, inputs of an atom).
            Where an atom has several inputs, as places of a flattened map, each is a sample.
        moments: E[x xᵀ] over pictures and places, or the covariance where the layer has a bias, which
            can take over the mean; float64, of shape (atoms, atoms), with a ridge.
        mean: E[x], or zero where the layer has no bias; float64, of shape (atoms,).
        products: WᵀW of the layer's weights over all outputs and places of its kernel; as `moments`.
    """

    layer: str
    positions: Tensor
    moments: Tensor
    mean: Tensor
    products: Tensor


#: The readings of each group, by its name.
Readings = Mapping[str, Sequence[Reading]]


def take_readings(
    network: nn.Module, groups: Sequence[Group], batches: Iterable[Tensor]
) -> dict[str, list[Reading]]:
    """Runs a network on pictures, in eval mode, and sees what layers read.

    Args:
        network: The network; its mode is restored.
        groups: Its groups of channels.
        batches: Batches of pictures as the network takes them, (batch, channels, *spatial), on its
            device.

    Returns:
        For each group one reading for each layer that reads it (see `slim.readers`), in the order of
        its members. A layer that runs in training only has none.

    Raises:
        DataError: If what a layer reads is not finite.
    """
    taken: list[tuple[str, str, _Taken]] = []
    hooks: dict[str, list[_Taken]] = {}
    for group in groups:
        for place in readers(network, group):
            name = group.members[place].layer
            own = _Taken(torch.tensor([atom[place] for atom in group.atoms]))
            taken.append((group.name, name, own))
            hooks.setdefault(name, []).append(own)
    handles = [
        network.get_submodule(name).register_forward_pre_hook(_adding(own))
        for name, own in hooks.items()
    ]
    dtype = floating_dtype(network)
    try:
        with eval_mode(network), torch.no_grad():
            for images in batches:
                network(images.to(dtype))
    finally:
        for handle in handles:
            handle.remove()
    found: dict[str, list[Reading]] = {group.name: [] for group in groups}
    for group_name, name, own in taken:
        if own.moments.count:
            found[group_name].append(own.reading(name, network.get_submodule(name)))
    return found


def ridge_share(atoms: int, samples: int) -> float:
    """The ridge of a group's moments, as a share of their mean diagonal.

    It is the error of a covariance of so many samples, so that of few pictures no channel seems to be
    replaced exactly by the others only because there are more channels than pictures.
    """
    return max(_RIDGE, atoms / samples)


def has_bias(layer: nn.Module) -> bool:
    """Whether a layer's bias can take over a mean: each of its outputs sees the whole kernel."""
    return getattr(layer, "bias", None) is not None and not isinstance(layer, ConvTransposeNd)


class _Taken:
    """What a layer reads of one group."""

    def __init__(self, positions: Tensor) -> None:
        self._positions = positions
        self.moments = Moments(len(positions), covariance=True)

    def add(self, values: Tensor) -> None:
        """Adds values of shape (…, inputs of the layer)."""
        own = values[..., self._positions.to(values.device)]
        self.moments.add(own, axis=-2)

    def reading(self, name: str, layer: nn.Module) -> Reading:
        if not self.moments.finite:
            raise DataError(
                f"What {name} reads of these pictures is not finite: look at the network's weights, and "
                "at the pictures' values."
            )
        mean, second = self.moments.mean, self.moments.covariance
        if not has_bias(layer):
            second = second + mean.outer(mean)
            mean = torch.zeros_like(mean)
        share = ridge_share(len(mean), self.moments.count)
        ridge = share * float(second.diagonal().mean()) or 1.0
        second = second + ridge * torch.eye(len(mean), dtype=second.dtype)
        return Reading(name, self._positions, second, mean, _products(layer, self._positions))


def _products(layer: nn.Module, positions: Tensor) -> Tensor:
    weight: Tensor = layer.weight.detach().double().cpu()  # type: ignore[operator,union-attr]
    rows = weight.movedim(input_dimension(layer), -1).flatten(0, -2)  # (outputs · kernel, inputs)
    own = rows[:, positions].transpose(1, 2).flatten(0, 1)
    return own.T @ own


def _adding(taken: Sequence[_Taken]) -> Callable[[nn.Module, Any], None]:
    def hook(layer: nn.Module, args: Any) -> None:
        values = args[0].detach().movedim(channel_axis(layer), -1)
        for own in taken:
            own.add(values)

    return hook
