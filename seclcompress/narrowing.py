"""Narrowing layers: of a layer's channels, some are kept, and its tensors lose the others.

A layer has *inputs* and *outputs*: channels of a convolution, features of a Linear. A normalisation and
a PReLU have the same channels on both sides. With groups, a whole group is kept or lost, and the number
of groups falls, so a depthwise filter is lost with its channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from seclcompress.errors import NetworkError
from seclcompress.torch_private import (
    ConvNd,
    ConvTransposeNd,
    computes_as,
    has_forward_hooks,
)

#: A convolution's or Linear's inputs and outputs, or a normalisation's channels.
Widths = tuple[int, int]

_CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_NORMALISATIONS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    FrozenBatchNorm2d,
)


@dataclass(frozen=True)
class Kept:
    """What is kept of a layer.

    Attributes:
        inputs: Positions of the kept inputs, ascending; int64, of shape (kept,).
        outputs: Positions of the kept outputs, likewise. Equal to `inputs` where a layer has the same
            channels on both sides.
    """

    inputs: Tensor
    outputs: Tensor


def can_narrow(layer: nn.Module) -> bool:
    """Whether a layer runs torch's own code for a convolution, a Linear, a batch norm or a PReLU.

    A layer with hooks or with a weight that it makes from other tensors cannot be narrowed.
    """
    kinds = (*_CONVOLUTIONS, *_NORMALISATIONS, nn.Linear, nn.PReLU)
    kind = next((kind for kind in kinds if isinstance(layer, kind)), None)
    if kind is None or not computes_as(layer, kind) or has_forward_hooks(layer):
        return False
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters > 1
    weight = getattr(layer, "weight", None)
    own = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    return weight is None or own.get("weight") is weight


def widths_of(layer: nn.Module) -> Widths:
    """Numbers of inputs and outputs of a layer that `can_narrow` accepts."""
    if isinstance(layer, ConvNd):
        return layer.in_channels, layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters, layer.num_parameters
    if isinstance(layer, FrozenBatchNorm2d):
        return len(layer.weight), len(layer.weight)
    features = int(layer.num_features)  # type: ignore[arg-type]
    return features, features


def channel_axis(layer: nn.Module) -> int:
    """The dimension of a layer's inputs and outputs that holds the channels, counted from the end.

    Args:
        layer: A convolution, a Linear, or what replaces one: what has no `kernel_size` has its features
            in the last dimension.
    """
    sizes: tuple[int, ...] = getattr(layer, "kernel_size", ())
    return -1 - len(sizes)


def groups_of(layer: nn.Module) -> int:
    """The number of groups of a convolution; each channel is a group where both sides are the same."""
    if isinstance(layer, ConvNd):
        return int(layer.groups)
    return 1 if isinstance(layer, nn.Linear) else widths_of(layer)[0]


def narrow(layer: nn.Module, kept: Kept) -> None:
    """Narrows a layer in place; its parameters become new ones that hold the kept values.

    Args:
        layer: A layer that `can_narrow` accepts.
        kept: The inputs and outputs to keep; with groups, whole groups of them.
    """
    inputs, outputs = kept.inputs, kept.outputs
    if isinstance(layer, ConvNd):
        _narrow_convolution(layer, inputs, outputs)
    elif isinstance(layer, nn.Linear):
        _select(layer, "weight", (outputs, inputs))
        _select(layer, "bias", (outputs,))
        layer.in_features, layer.out_features = len(inputs), len(outputs)
    else:
        for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
            if tensor.dim() == 1:  # not the number of batches seen
                _select(layer, name, (outputs,))
        if isinstance(layer, nn.PReLU):
            layer.num_parameters = len(outputs)
        elif not isinstance(layer, FrozenBatchNorm2d):
            layer.num_features = len(outputs)  # type: ignore[assignment]


def _narrow_convolution(layer: ConvNd, inputs: Tensor, outputs: Tensor) -> None:
    rows, columns = (outputs, inputs)
    if isinstance(layer, ConvTransposeNd):  # its weight has the inputs first
        rows, columns = inputs, outputs
    if layer.groups > 1:  # the second axis is within a group, and groups are kept whole
        size = layer.in_channels // layer.groups
        _select(layer, "weight", (rows,))
        layer.groups = len(inputs) // size
    else:
        _select(layer, "weight", (rows, columns))
    _select(layer, "bias", (outputs,))
    layer.in_channels, layer.out_channels = len(inputs), len(outputs)


def _select(layer: nn.Module, name: str, positions: tuple[Tensor, ...]) -> None:
    """Replaces a parameter or buffer by what it has at these positions of its first dimensions."""
    old = getattr(layer, name)
    if old is None:
        return
    new = old.detach()
    for dimension, kept in enumerate(positions):
        new = new.index_select(dimension, kept.to(new.device))
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(layer, name, new)


def resize(network: nn.Module, widths: Mapping[str, Widths]) -> nn.Module:
    """Narrows layers of a network in place to given widths. Which channels are kept does not matter.

    Args:
        network: The network.
        widths: Inputs and outputs by the layer's name.

    Returns:
        The same network.

    Raises:
        NetworkError: If there is no such layer, it cannot be narrowed, or not to this width.
    """
    for name, (inputs, outputs) in widths.items():
        layer = _layer(network, name)
        _check(name, layer, (inputs, outputs))
        narrow(layer, Kept(torch.arange(inputs), torch.arange(outputs)))
    return network


def _layer(network: nn.Module, name: str) -> nn.Module:
    try:
        layer = network.get_submodule(name)
    except AttributeError as error:
        raise NetworkError(f"Its widths name {name}, and the network has no such layer.") from error
    if not can_narrow(layer):
        raise NetworkError(
            f"Its widths name {name}, a {type(layer).__name__} that cannot be narrowed."
        )
    return layer


def _check(name: str, layer: nn.Module, wanted: Widths) -> None:
    has, groups = widths_of(layer), groups_of(layer)
    sizes = [width // groups for width in has]  # of a group
    whole = all(1 <= width <= most for width, most in zip(wanted, has, strict=True))
    if groups > 1:
        counts = [divmod(width, size) for width, size in zip(wanted, sizes, strict=True)]
        whole = whole and counts[0] == counts[1] and counts[0][1] == 0
    if not whole:
        raise NetworkError(
            f"{name} has {has[0]} inputs and {has[1]} outputs in {groups} groups; it cannot be "
            f"narrowed to {wanted[0]} and {wanted[1]}."
        )
