"""MobileNetV2 for 32×32 images (Sandler et al., CVPR 2018), as in the SECL authors' log.

The stem and the second group have stride 1, and a block of stride 1 that changes the number of channels
has a 1×1 shortcut. The nonlinearity is ReLU. The parameters have the names that checkpoints of the usual
CIFAR training programs have (`layers.0.conv1.weight`, …).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.networks.classifiers import NamedClassifiers

#: Expansion, output channels, number of blocks, and stride of the first block of each group.
_GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedBlock(nn.Module):
    """1×1, BN, ReLU, 3×3 depthwise, BN, ReLU, 1×1, BN; plus a shortcut if the stride is 1."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = expansion * in_channels
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.adds = stride == 1
        self.shortcut = nn.Sequential()
        if self.adds and in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in, H, W) to (batch, out, H ÷ stride, W ÷ stride)."""
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        y = self.bn3(self.conv3(y))
        return y + self.shortcut(x) if self.adds else y


class MobileNetV2(nn.Module):
    """A 3×3 stem, 17 inverted blocks, a 1×1 convolution, average pooling and a classifier."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        blocks = []
        inside = 32
        for expansion, outside, count, first in _GROUPS:
            for number in range(count):
                stride = 1 if number else first
                blocks.append(InvertedBlock(inside, outside, expansion, stride))
                inside = outside
        self.layers = nn.Sequential(*blocks)
        self.conv2 = nn.Conv2d(inside, 1280, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1280)
        self.linear = nn.Linear(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (batch, 3, H, W) to logits (batch, num_classes)."""
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        x = F.adaptive_avg_pool2d(F.relu(self.bn2(self.conv2(x))), 1)
        return self.linear(torch.flatten(x, 1))  # type: ignore[no-any-return]


class MobileNetV2s(NamedClassifiers):
    """The network `mobilenetv2_cifar`, which takes no options."""

    name = "mobilenetv2_cifar"

    def names(self) -> list[str]:
        """The one name."""
        return ["mobilenetv2_cifar"]

    def network(self, name: str, num_classes: int) -> MobileNetV2:
        """Builds the network."""
        del name
        return MobileNetV2(num_classes)


SOURCE = MobileNetV2s()
