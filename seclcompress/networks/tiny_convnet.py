"""The tiny convolutional network of the SECL authors' research log, for 32×32 images.

Nine convolutions, each but the last with a bias, batch norm and ReLU, the last with a bias and ReLU. The
log's ACDC form has no biases: `tiny_convnet_no_bias` is the network that it was made from.
"""

from __future__ import annotations

from torch import nn

from seclcompress.networks.classifiers import NamedClassifiers

#: Output channels, kernel size and stride of each convolution.
_LAYERS = (
    (24, 3, 1),
    (24, 3, 1),
    (24, 3, 2),
    (48, 3, 1),
    (48, 3, 1),
    (48, 3, 2),
    (48, 3, 1),
    (48, 1, 1),
    (48, 1, 1),
)
#: Whether the convolutions of a network have biases.
_NETWORKS = {"tiny_convnet": True, "tiny_convnet_no_bias": False}


def tiny_convnet(num_classes: int, *, bias: bool) -> nn.Sequential:
    """Builds the network.

    Args:
        num_classes: Outputs of the classifier.
        bias: Whether the convolutions have biases.
    """
    parts: list[nn.Module] = []
    inside = 3
    for number, (outside, kernel, stride) in enumerate(_LAYERS, start=1):
        parts.append(nn.Conv2d(inside, outside, kernel, stride, padding=kernel // 2, bias=bias))
        if number < len(_LAYERS):
            parts.append(nn.BatchNorm2d(outside))
        parts.append(nn.ReLU(inplace=True))
        inside = outside
    return nn.Sequential(*parts, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(inside, num_classes))


class TinyConvNets(NamedClassifiers):
    """The networks `tiny_convnet` and `tiny_convnet_no_bias`, which take no options."""

    name = "tiny_convnet"
    needs_input_size = True

    def names(self) -> list[str]:
        """Both names."""
        return list(_NETWORKS)

    def network(self, name: str, num_classes: int) -> nn.Sequential:
        """Builds the network with or without biases."""
        return tiny_convnet(num_classes, bias=_NETWORKS[name])


SOURCE = TinyConvNets()
