"""Chains of convolution and pooling for 28×28 images: `conv_pool<layers>_<channels>_mnist`.

The convolutional network of the journal of fastdeepnets: 3×3 convolutions without padding, each with
ReLU and 2×2 max pooling; then a hidden layer of 500 ReLUs and the classifier. Its program starts with 50
channels in each convolution.
"""

from __future__ import annotations

import re

from torch import nn

from seclcompress.networks.classifiers import NamedClassifiers
from seclcompress.networks.sources import NetworkSpec

#: Three layers map 28×28 to 1×1; there is nothing left for a fourth.
_NAME = re.compile(r"conv_pool([1-3])_([1-9]\d{0,2})_mnist")
_HIDDEN = 500


class ConvPoolNets(NamedClassifiers):
    """The networks `conv_pool<layers>_<channels>_mnist`, which take no options."""

    name = "conv_pool_mnist"
    needs_input_size = True
    also = (
        "Any other conv_pool<layers>_<channels>_mnist will do as well, of up to 3 layers and 999 "
        "channels."
    )

    def names(self) -> list[str]:
        """The networks with the journal's width; others are known as well."""
        return [f"conv_pool{layers}_50_mnist" for layers in (1, 2, 3)]

    def knows(self, name: str) -> bool:
        """Whether a name is of this form."""
        return _NAME.fullmatch(name) is not None

    def network(self, name: str, num_classes: int) -> nn.Sequential:
        """Builds the network of so many layers and channels."""
        match = _NAME.fullmatch(name)
        assert match is not None
        layers, channels = int(match[1]), int(match[2])
        parts: list[nn.Module] = []
        inside, side = 1, 28
        for _ in range(layers):
            parts += [nn.Conv2d(inside, channels, 3), nn.ReLU(), nn.MaxPool2d(2)]
            inside, side = channels, (side - 2) // 2
        return nn.Sequential(
            *parts,
            nn.Flatten(),
            nn.Linear(inside * side**2, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, num_classes),
        )

    def input_size(self, spec: NetworkSpec) -> tuple[int, ...]:
        """The size of MNIST's images."""
        del spec
        return (1, 28, 28)


SOURCE = ConvPoolNets()
