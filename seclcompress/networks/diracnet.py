"""DiracNets: plain networks without shortcuts (Zagoruyko & Komodakis, 2017, arXiv:1706.00388).

Every 3×3 convolution but the stem is a Dirac convolution, followed by batch norm and ReLU; max pooling
lies between the groups. This is the version of the paper with a gain for every channel. It has a ReLU
where the first version had NCReLU with twice the input channels; the published parameter counts of
DiracNet-28-5 (9.1 M), 28-10 (36.5 M), 18 (11.52 M) and 34 (21.64 M) are those of this version.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from seclcompress.errors import NetworkError
from seclcompress.networks.classifiers import NamedClassifiers
from seclcompress.networks.depth_and_width import Family
from seclcompress.networks.sources import NetworkSpec
from seclcompress.substitutions.dirac import dirac_convolution

_CIFAR = Family("diracnet", "a DiracNet for 32×32 images")
#: Dirac convolutions in each group of the networks for ImageNet.
_IMAGENET = {"diracnet18": (4, 4, 4, 4), "diracnet34": (6, 8, 12, 6)}


def _group(in_channels: int, out_channels: int, layers: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for number in range(layers):
        inside = out_channels if number else in_channels
        conv = nn.Conv2d(inside, out_channels, 3, padding=1, bias=False)
        parts += [dirac_convolution(conv), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)


def _network(
    stem: Sequence[nn.Module], channels: Sequence[int], layers: Sequence[int], num_classes: int
) -> nn.Sequential:
    """Puts a network together.

    Args:
        stem: The layers before the first group, which hand on `channels[0]` channels.
        channels: Output channels of each group.
        layers: Dirac convolutions in each group.
        num_classes: Outputs of the classifier.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(*stem))
    inside = channels[0]
    for number, (outside, count) in enumerate(zip(channels, layers, strict=True), start=1):
        if number > 1:
            parts[f"pool{number - 1}"] = nn.MaxPool2d(2)
        parts[f"group{number}"] = _group(inside, outside, count)
        inside = outside
    parts["pool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["fc"] = nn.Linear(inside, num_classes)
    network = nn.Sequential(parts)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    nn.init.zeros_(network.get_submodule("fc").bias)  # type: ignore[arg-type]
    return network


def diracnet(name: str, num_classes: int) -> nn.Sequential:
    """Builds the network that a name such as `diracnet28_5` or `diracnet18` stands for.

    Raises:
        NetworkError: If the depth is not 6n + 4 with n ≥ 1 or is too large, or the width is 0.
    """
    if name in _IMAGENET:
        stem = [
            nn.Conv2d(3, 64, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        ]
        return _network(stem, (64, 128, 256, 512), _IMAGENET[name], num_classes)
    found = _CIFAR.depth_and_width(name)
    if found is None:
        raise NetworkError(
            f"'{name}' is not of the form diracnet<depth>_<width>, as in diracnet28_5, nor one of "
            f"{', '.join(_IMAGENET)}."
        )
    depth, width = found
    channels = [round(base * width) for base in (16, 32, 64)]
    stem = [
        nn.Conv2d(3, channels[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(channels[0]),
        nn.ReLU(inplace=True),
    ]
    return _network(stem, channels, [(depth - 4) // 3] * 3, num_classes)


class DiracNets(NamedClassifiers):
    """The networks `diracnet<depth>_<width>`, `diracnet18` and `diracnet34`, which take no options."""

    name = "diracnet"
    also = "Any other diracnet<depth>_<width> with a depth of 6n + 4 will do as well."

    def names(self) -> list[str]:
        """The networks of the paper; other depths and widths are known as well."""
        return ["diracnet28_5", "diracnet28_10", *_IMAGENET]

    def knows(self, name: str) -> bool:
        """Whether a name is one for ImageNet or has the form `diracnet<depth>_<width>`."""
        return name in _IMAGENET or _CIFAR.knows(name)

    def usual_classes(self, name: str) -> int:
        """1000 classes for the networks of ImageNet, 10 for those of CIFAR."""
        return 1000 if name in _IMAGENET else super().usual_classes(name)

    def network(self, name: str, num_classes: int) -> nn.Module:
        """Builds the network of a depth and a width, or one for ImageNet."""
        return diracnet(name, num_classes)

    def input_size(self, spec: NetworkSpec) -> tuple[int, ...]:
        """The size of ImageNet's usual crops, or of CIFAR's images."""
        return (3, 224, 224) if spec.name in _IMAGENET else super().input_size(spec)


SOURCE = DiracNets()
