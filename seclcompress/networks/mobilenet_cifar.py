"""MobileNet for 32×32 images (Howard et al., 2017, arXiv:1704.04861), as in the SECL authors' log.

The paper's network with a stem of stride 1, so that the last map is 2×2. The parameters have the names
that checkpoints of the usual CIFAR training programs have (`layers.0.conv1.weight`, …).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.networks.classifiers import NamedClassifiers

#: Output channels and stride of each block.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)


class SeparableBlock(nn.Module):
    """3×3 depthwise, BN, ReLU, 1×1, BN, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False
        )
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in, H, W) to (batch, out, H ÷ stride, W ÷ stride)."""
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class MobileNet(nn.Module):
    """A 3×3 stem, 13 separable blocks, average pooling and a classifier."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        blocks = []
        inside = 32
        for outside, stride in _BLOCKS:
            blocks.append(SeparableBlock(inside, outside, stride))
            inside = outside
        self.layers = nn.Sequential(*blocks)
        self.linear = nn.Linear(inside, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (batch, 3, H, W) to logits (batch, num_classes)."""
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


class MobileNets(NamedClassifiers):
    """The network `mobilenet_cifar`, which takes no options."""

    name = "mobilenet_cifar"

    def names(self) -> list[str]:
        """The one name."""
        return ["mobilenet_cifar"]

    def network(self, name: str, num_classes: int) -> MobileNet:
        """Builds the network."""
        del name
        return MobileNet(num_classes)


SOURCE = MobileNets()
