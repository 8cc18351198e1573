"""How much the error of a layer's outputs matters to the network's loss, by Fisher information.

Turner et al. (BlockSwap, ICLR 2020, arXiv:1906.04113) rank whole candidate networks, with random
weights, by their Fisher potential on one minibatch: for a channel c of a block's output a,

    Δ_c = 1 ÷ 2N · Σ_n (Σ_ij a_nijc · ∂L/∂a_nijc)²

summed over channels and blocks. It estimates how much the loss L grows if the channel is set to zero
(Theis et al., 2018, arXiv:1801.05787), and the network with more of it is taken. Δ is theirs.

What is ours: a trained network is looked at once, and the channel is not set to zero but changed as a
candidate changes it. With Δa = (Ŵ − W) ∗ x in the place of −a, the same estimate says how much the loss
grows if this layer alone becomes the candidate:

    Δ(Ŵ) = 1 ÷ 2N · Σ_c Σ_n (Σ_ij Δa_nijc · ∂L/∂a_nijc)²

It adds up over layers, and with Ŵ = 0 it is BlockSwap's potential of the layer's outputs without bias.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.recover.moments import patches
from seclcompress.substitutions import Site
from seclcompress.substitutions.shapes.convolve import convolve
from seclcompress.substitutions.site import Convolution

_SINGLE = 4  # bytes


class Gradients:
    """What each image says about a layer: the gradient of its loss by W, or x and ∂L/∂a.

    Σ_ij Δa · ∂L/∂a is linear in Ŵ − W, and its slope is the image's gradient by W. That is kept where it
    is smaller than the inputs x and ∂L/∂a, from which it is made.

    Args:
        site: The layer's site in the network.
        layer: The layer.
    """

    def __init__(self, site: Site, layer: Convolution | nn.Linear) -> None:
        self._layer = layer
        self._by_weights = _weights(layer) <= _activations(site)
        self._slopes: list[Tensor] = []
        self._calls: list[list[tuple[Tensor, Tensor]]] = []
        self._images = 0

    @staticmethod
    def held(site: Site, layer: Convolution | nn.Linear) -> int:
        """Bytes that one image takes."""
        return _SINGLE * min(_weights(layer), _activations(site))

    def add(self, calls: list[tuple[Tensor, Tensor]]) -> None:
        """Adds an image.

        Args:
            calls: For each time the layer ran, its inputs, of any shape that it takes, and the gradient
                of the image's loss by its outputs.
        """
        self._images += 1
        if not self._by_weights:
            self._calls.append([(x.float().cpu(), g.float().cpu()) for x, g in calls])
        elif calls:
            self._slopes.append(sum(_slope(x, g, self._layer) for x, g in calls).float().cpu())  # type: ignore[union-attr]

    def missed(self, far: Tensor) -> float:
        """Δ(Ŵ) in nats of cross-entropy, estimated from the images; 0 if there were none.

        Args:
            far: Ŵ − W, or W − Ŵ, of shape (out, in, *kernel).
        """
        single = far.float()
        rows = single.flatten(1)
        sums = [(slope * rows).sum(1) for slope in self._slopes]
        for calls in self._calls:
            each = [_by_channel(_run(x, single, self._layer) * g, self._layer) for x, g in calls]
            sums += [torch.stack(each).sum(0)] if each else []
        total = sum(float(one.double().square().sum()) for one in sums)
        return total / (2 * max(1, self._images))


def _weights(layer: Convolution | nn.Linear) -> int:
    """The numbers in W with zeros between groups."""
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    return layer.weight.numel() * groups


def _activations(site: Site) -> int:
    """The numbers in a layer's inputs and outputs for one image."""
    conv = site.convolution
    return site.input_positions * conv.in_channels + site.output_positions * conv.out_channels


def _run(x: Tensor, weight: Tensor, layer: Convolution | nn.Linear) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    return convolve(_batched(x, layer), weight, None, layer)


def _batched(x: Tensor, layer: Convolution | nn.Linear) -> Tensor:
    """A convolution also takes one image without a batch."""
    unbatched = x.dim() < layer.weight.dim() and not isinstance(layer, nn.Linear)
    return x[None] if unbatched else x


def _by_channel(a: Tensor, layer: Convolution | nn.Linear) -> Tensor:
    """Sums over everything but the channels of a layer's outputs."""
    if isinstance(layer, nn.Linear):
        return a.reshape(-1, layer.out_features).sum(0)
    return a.transpose(0, 1).flatten(1).sum(1)


def _slope(x: Tensor, g: Tensor, layer: Convolution | nn.Linear) -> Tensor:
    """The gradient by W, shape (out, width), of what gives the outputs the gradient g."""
    if isinstance(layer, nn.Linear):
        rows = g.reshape(-1, layer.out_features).T
    else:
        rows = _batched(g, layer).transpose(0, 1).flatten(1)
    return rows @ patches(_batched(x, layer), layer)[:-1].T
