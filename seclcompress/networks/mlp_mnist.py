"""Perceptrons with one hidden layer for 28×28 images: `mlp<width>_mnist`.

The journal of fastdeepnets begins with them: 784 inputs, a hidden layer of 64 to 2048 ReLUs, 10 outputs.
"""

from __future__ import annotations

import re
from collections import OrderedDict

from torch import nn

from seclcompress.networks.classifiers import NamedClassifiers
from seclcompress.networks.sources import NetworkSpec

_NAME = re.compile(
    r"mlp([1-9]\d{0,3})_mnist"
)  # it may stand in a stranger's file: no endless widths


class Perceptrons(NamedClassifiers):
    """The networks `mlp<width>_mnist`, which take no options."""

    name = "mlp_mnist"
    needs_input_size = True
    also = "Any other mlp<width>_mnist will do as well, up to a width of 9999."

    def names(self) -> list[str]:
        """Widths of the journal; others are known as well."""
        return ["mlp64_mnist", "mlp500_mnist", "mlp2048_mnist"]

    def knows(self, name: str) -> bool:
        """Whether a name is of this form."""
        return _NAME.fullmatch(name) is not None

    def network(self, name: str, num_classes: int) -> nn.Sequential:
        """Builds the network of a width."""
        match = _NAME.fullmatch(name)
        assert match is not None
        width = int(match[1])
        return nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                hidden_layer=nn.Linear(28 * 28, width),
                activation=nn.ReLU(),
                output_layer=nn.Linear(width, num_classes),
            )
        )

    def input_size(self, spec: NetworkSpec) -> tuple[int, ...]:
        """The size of MNIST's images."""
        del spec
        return (1, 28, 28)


SOURCE = Perceptrons()
