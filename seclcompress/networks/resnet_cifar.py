"""Thin residual networks for 32×32 images (He et al., CVPR 2016, section 4.2).

Three groups of 16, 32 and 64 channels, 6n + 2 layers. A shortcut to more channels takes every second
pixel and adds channels of zeros (the paper's option A), so it has no parameters. The parameters have the
names that widely used checkpoints have (`layer1.0.conv1.weight`, …, `linear.weight`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.networks.classifiers import NamedClassifiers

#: The depths of the paper.
_DEPTHS = {f"resnet{depth}_cifar": depth for depth in (20, 32, 44, 56, 110, 1202)}


class ThinBlock(nn.Module):
    """3×3, BN, ReLU, 3×3, BN, plus the shortcut of option A, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.added = (out_channels - in_channels) // 2  # channels of zeros on either side

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in, H, W) to (batch, out, H ÷ stride, W ÷ stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.added:
            x = F.pad(x, (0, 0, 0, 0, self.added, self.added))
        return F.relu(y + x)


class ThinResNet(nn.Module):
    """ResNet-depth for CIFAR.

    Args:
        depth: 6n + 2 for n blocks per group.
        num_classes: Outputs of the classifier.
    """

    def __init__(self, depth: int, num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _group(16, 16, blocks, stride=1)
        self.layer2 = _group(16, 32, blocks, stride=2)
        self.layer3 = _group(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (batch, 3, H, W) to logits (batch, num_classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


def _group(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [ThinBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)]
    return nn.Sequential(ThinBlock(in_channels, out_channels, stride), *rest)


class ThinResNets(NamedClassifiers):
    """The networks `resnet<depth>_cifar` of the paper, which take no options."""

    name = "resnet_cifar"

    def names(self) -> list[str]:
        """The depths of the paper."""
        return list(_DEPTHS)

    def network(self, name: str, num_classes: int) -> ThinResNet:
        """Builds the network of a depth."""
        return ThinResNet(_DEPTHS[name], num_classes)


SOURCE = ThinResNets()
