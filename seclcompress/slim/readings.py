"""Second moments of the channels that layers read, over pictures and places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seclcompress.errors import DataError
from seclcompress.graph import Group
from seclcompress.slim.attaching import readers
from seclcompress.torch_private import ConvNd, ConvTransposeNd
from seclcompress.trace import eval_mode, floating_dtype

_RIDGE = 1e-4  # the least one, so that dead channels have an inverse
_ROWS = 1 << 16  # samples whose doubles are held at a time


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
    sums: dict[tuple[str, int], _Sums] = {}
    hooks: dict[str, list[_Sums]] = {}
    for group in groups:
        for place in readers(network, group):
            name = group.members[place].layer
            own = _Sums(torch.tensor([atom[place] for atom in group.atoms]))
            sums[group.name, place] = own
            hooks.setdefault(name, []).append(own)
    layers = {name: network.get_submodule(name) for name in hooks}
    handles = [
        layer.register_forward_pre_hook(_adding(_axis(layer), hooks[name]))
        for name, layer in layers.items()
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
    for group in groups:
        for place in readers(network, group):
            name = group.members[place].layer
            own = sums[group.name, place]
            if own.count:
                found[group.name].append(own.reading(name, layers[name]))
    return found


def ridge_share(atoms: int, samples: int) -> float:
    """The ridge of a group's moments, as a share of their mean diagonal.

    It is the error of a covariance of so many samples, so that of few pictures no channel seems to be
    replaced exactly by the others only because there are more channels than pictures.
    """
    return max(_RIDGE, atoms / samples)


def input_dimension(layer: nn.Module) -> int:
    """The dimension of a layer's weight that stands for its inputs."""
    return 0 if isinstance(layer, ConvTransposeNd) else 1


def has_bias(layer: nn.Module) -> bool:
    """Whether a layer's bias can take over a mean: each of its outputs sees the whole kernel."""
    return getattr(layer, "bias", None) is not None and not isinstance(layer, ConvTransposeNd)


class _Sums:
    """Sums over what a layer reads of one group."""

    def __init__(self, positions: Tensor) -> None:
        self._positions = positions
        atoms = len(positions)
        self.count = 0
        self._first = torch.zeros(atoms, dtype=torch.float64)
        self._second = torch.zeros(atoms, atoms, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Adds values of shape (samples, inputs of the layer)."""
        positions = self._positions.to(values.device)
        for rows in values.split(_ROWS):
            # In single precision, rounding errors of a large mean would outgrow a small variance.
            own = rows[:, positions].transpose(1, 2).flatten(0, 1).double()
            self.count += len(own)
            self._first += own.sum(0).cpu()
            self._second += (own.T @ own).cpu()

    def reading(self, name: str, layer: nn.Module) -> Reading:
        mean = self._first / self.count
        moments = self._second / self.count
        if not bool(moments.isfinite().all()):
            raise DataError(
                f"What {name} reads of these pictures is not finite: look at the network's weights, and "
                "at the pictures' values."
            )
        if has_bias(layer):
            moments = moments - mean.outer(mean)
        else:
            mean = torch.zeros_like(mean)
        ridge = ridge_share(len(mean), self.count) * float(moments.diagonal().mean()) or 1.0
        moments = moments + ridge * torch.eye(len(mean), dtype=moments.dtype)
        return Reading(name, self._positions, moments, mean, _products(layer, self._positions))


def _products(layer: nn.Module, positions: Tensor) -> Tensor:
    weight: Tensor = layer.weight.detach().double().cpu()  # type: ignore[operator,union-attr]
    rows = weight.movedim(input_dimension(layer), -1).flatten(0, -2)  # (outputs · kernel, inputs)
    own = rows[:, positions].transpose(1, 2).flatten(0, 1)
    return own.T @ own


def _axis(layer: nn.Module) -> int:
    return -1 - len(layer.kernel_size) if isinstance(layer, ConvNd) else -1


def _adding(axis: int, sums: Sequence[_Sums]) -> Callable[[nn.Module, Any], None]:
    def hook(layer: nn.Module, args: Any) -> None:
        del layer
        values = args[0].detach().movedim(axis, -1).flatten(0, -2)
        for own in sums:
            own.add(values)

    return hook
