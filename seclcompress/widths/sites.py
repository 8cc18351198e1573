"""Which layers make hidden channels, and where their values stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seclcompress.narrowing import channel_axis
from seclcompress.substitutions import StructuredLayer
from seclcompress.torch_private import ConvNd
from seclcompress.trace import eval_mode, products_in_sight, trace_network
from seclcompress.widths.following import Call, Following, Place, See


@dataclass(frozen=True)
class Site:
    """A layer that makes hidden channels.

    Attributes:
        name: Its name in the network.
        layer: The layer.
        axis: The dimension of its output that holds the channels, counted from the end.
        channels: How many it makes.
        before: Where its values before the activation are taken: its own output, or that behind a batch
            norm that reads it directly.
        activation: The last activation before its output is read; None if there is none.
    """

    name: str
    layer: nn.Module
    axis: int
    channels: int
    before: Place
    activation: str | None


def find_sites(network: nn.Module, image: Tensor) -> list[Site]:
    """Finds the convolutions, Linears and replacements of these that make hidden channels.

    A layer that makes the network's outputs, or that does not run, is left out.

    Args:
        network: The network, on the image's device.
        image: A batch of one, (1, *input_size).

    Returns:
        The layers in running order.

    Raises:
        NetworkError: If the network cannot run on such an image.
    """
    makers = trace_network(network, tuple(image.shape[1:])).makers
    layers = {
        name: layer
        for name, layer in _layers(network).items()
        if not any(one == name or one.startswith(f"{name}.") for one in makers)
    }
    channels: dict[str, int] = {}
    normed: set[str] = set()
    activations: dict[str, str | None] = {}
    axes = {name: channel_axis(layer) for name, layer in layers.items()}

    def see(call: Call, place: Place, value: Tensor, activation: str | None) -> None:
        if place == "output":
            channels.setdefault(call.layer, value.shape[call.axis])
        elif place == "batch norm":
            normed.add(call.layer)
        else:
            activations.setdefault(call.layer, activation)

    run(network, layers, axes, image, see)
    return [
        Site(
            name,
            layers[name],
            axes[name],
            width,
            "batch norm" if name in normed else "output",
            activations.get(name),
        )
        for name, width in channels.items()
    ]


def run(
    network: nn.Module,
    layers: Mapping[str, nn.Module],
    axes: Mapping[str, int],
    images: Tensor,
    see: See,
) -> None:
    """Runs a network on images in eval mode and tells what layers make.

    Args:
        network: The network; its mode is restored.
        layers: The layers by name.
        axes: The dimension of each layer's output that holds the channels, counted from the end.
        images: A batch.
        see: Is told.
    """
    following = Following(layers, axes, see)
    with eval_mode(network), torch.no_grad(), products_in_sight(), following.watching():
        network(images)


def _layers(network: nn.Module) -> dict[str, nn.Module]:
    """The convolutions, Linears and replacements by name, without those inside a replacement."""
    found: dict[str, nn.Module] = {}
    inside: set[int] = set()
    for name, module in network.named_modules():
        if id(module) in inside or not isinstance(module, ConvNd | nn.Linear | StructuredLayer):
            continue
        inside |= {id(part) for part in module.modules()}
        found[name] = module
    return found
