"""Wide residual networks for 32×32 images (Zagoruyko & Komodakis, BMVC 2016).

Pre-activation blocks of two 3×3 convolutions in three groups of 16k, 32k and 64k channels. torchvision
has no such networks (its `wide_resnet50_2` is a bottleneck network for ImageNet).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.errors import NetworkError
from seclcompress.networks.depth_and_width import Family
from seclcompress.networks.sources import NetworkSpec, Option, Source

_FAMILY = Family("wrn", "a wide residual network")


class WideBlock(nn.Module):
    """BN, ReLU, 3×3, BN, ReLU, 3×3, and a shortcut, which is a 1×1 where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            if in_channels != out_channels or stride != 1
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in, H, W) to (batch, out, H ÷ stride, W ÷ stride)."""
        activated = F.relu(self.bn1(x))
        residual = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """WRN-depth-width.

    Args:
        depth: 6n + 4 for n blocks per group.
        width: The factor k on the channels; it may be a fraction.
        num_classes: Outputs of the classifier.
    """

    def __init__(self, depth: int, width: float, num_classes: int = 10) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        channels = [16, *(round(base * width) for base in (16, 32, 64))]
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.group1 = _group(channels[0], channels[1], blocks, stride=1)
        self.group2 = _group(channels[1], channels[2], blocks, stride=2)
        self.group3 = _group(channels[2], channels[3], blocks, stride=2)
        self.bn = nn.BatchNorm2d(channels[3])
        self.fc = nn.Linear(channels[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (batch, 3, H, W) to logits (batch, num_classes)."""
        x = self.group3(self.group2(self.group1(self.conv1(x))))
        x = F.adaptive_avg_pool2d(F.relu(self.bn(x)), 1)
        return self.fc(torch.flatten(x, 1))  # type: ignore[no-any-return]


def _group(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [WideBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)]
    return nn.Sequential(WideBlock(in_channels, out_channels, stride), *rest)


def wide_resnet(name: str, num_classes: int = 10) -> WideResNet:
    """Builds the network that a name such as `wrn40_2` stands for.

    Raises:
        NetworkError: If the depth is not 6n + 4 with n ≥ 1 or is too large, or the width is 0.
    """
    found = _FAMILY.depth_and_width(name)
    if found is None:
        raise NetworkError(f"'{name}' is not of the form wrn<depth>_<width>, as in wrn40_2.")
    depth, width = found
    return WideResNet(depth, width, num_classes)


class WideResNets(Source):
    """The networks `wrn<depth>_<width>`, which take no options."""

    name = "wide_resnet"
    also = "Any other wrn<depth>_<width> with a depth of 6n + 4 will do as well."

    def names(self) -> list[str]:
        """The networks of the papers; other depths and widths are known as well."""
        return ["wrn16_2", "wrn28_10", "wrn40_2"]

    def knows(self, name: str) -> bool:
        """Whether a name has the form `wrn<depth>_<width>`."""
        return _FAMILY.knows(name)

    def spec(
        self,
        name: str,
        num_classes: int | None = None,
        options: Mapping[str, Option] | None = None,
    ) -> NetworkSpec:
        """The spec of a network, by default with 10 classes."""
        return super().spec(name, 10 if num_classes is None else num_classes, options)

    def build(self, spec: NetworkSpec) -> WideResNet:
        """Builds the network that the name stands for.

        Raises:
            NetworkError: If its depth or width is impossible, or an option is given.
        """
        if spec.options:
            raise NetworkError(f"{spec.name} takes no options; got {', '.join(spec.options)}.")
        return wide_resnet(spec.name, spec.num_classes or 10)

    def input_size(self, spec: NetworkSpec) -> tuple[int, ...]:
        """The size of CIFAR's images."""
        del spec
        return (3, 32, 32)


SOURCE = WideResNets()
