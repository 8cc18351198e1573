"""Wide residual networks for 32×32 images (Zagoruyko & Komodakis, BMVC 2016).

Pre-activation blocks of two 3×3 convolutions in three groups of 16k, 32k and 64k channels, or of a 3×3
convolution of so many channels between two 1×1 ones, with four times as many outside (`…_bottleneck`).
torchvision has no such networks (its `wide_resnet50_2` is for ImageNet).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.errors import NetworkError
from seclcompress.networks.classifiers import NamedClassifiers
from seclcompress.networks.depth_and_width import Family

_BASIC = Family("wrn", "a wide residual network")
_BOTTLENECK = Family("wrn", "a wide residual network", "_bottleneck")
#: Channels outside of a bottleneck block, in channels of its 3×3 convolution.
_EXPANSION = 4


class WideBlock(nn.Module):
    """BN, ReLU, 3×3, BN, ReLU, 3×3, and a shortcut, which is a 1×1 where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in, H, W) to (batch, out, H ÷ stride, W ÷ stride)."""
        activated = self.relu1(self.bn1(x))
        residual = self.conv2(self.relu2(self.bn2(self.conv1(activated))))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


class BottleneckBlock(nn.Module):
    """BN, ReLU, 1×1, BN, ReLU, 3×3, BN, ReLU, 1×1, and a shortcut as in a `WideBlock`."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        inner = out_channels // _EXPANSION
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(inner)
        self.relu3 = nn.ReLU()
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in, H, W) to (batch, out, H ÷ stride, W ÷ stride)."""
        activated = self.relu1(self.bn1(x))
        y = self.conv2(self.relu2(self.bn2(self.conv1(activated))))
        residual = self.conv3(self.relu3(self.bn3(y)))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d | None:
    if in_channels == out_channels and stride == 1:
        return None
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class WideResNet(nn.Module):
    """WRN-depth-width.

    Args:
        depth: 6n + 4 for n blocks per group; so are networks of bottleneck blocks named, too.
        width: The factor k on the channels; it may be a fraction.
        num_classes: Outputs of the classifier.
        bottleneck: Whether the blocks are bottleneck blocks.
    """

    def __init__(
        self, depth: int, width: float, num_classes: int = 10, *, bottleneck: bool = False
    ) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        block, expansion = (BottleneckBlock, _EXPANSION) if bottleneck else (WideBlock, 1)
        channels = [16, *(round(base * width) * expansion for base in (16, 32, 64))]
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.group1 = _group(block, channels[0], channels[1], blocks, stride=1)
        self.group2 = _group(block, channels[1], channels[2], blocks, stride=2)
        self.group3 = _group(block, channels[2], channels[3], blocks, stride=2)
        self.bn = nn.BatchNorm2d(channels[3])
        self.relu = nn.ReLU()
        self.fc = nn.Linear(channels[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (batch, 3, H, W) to logits (batch, num_classes)."""
        x = self.group3(self.group2(self.group1(self.conv1(x))))
        x = F.adaptive_avg_pool2d(self.relu(self.bn(x)), 1)
        return self.fc(torch.flatten(x, 1))  # type: ignore[no-any-return]


def _group(
    block: type[WideBlock] | type[BottleneckBlock],
    in_channels: int,
    out_channels: int,
    blocks: int,
    stride: int,
) -> nn.Sequential:
    rest = [block(out_channels, out_channels, 1) for _ in range(blocks - 1)]
    return nn.Sequential(block(in_channels, out_channels, stride), *rest)


def wide_resnet(name: str, num_classes: int = 10) -> WideResNet:
    """Builds the network that a name such as `wrn40_2` or `wrn16_1_bottleneck` stands for.

    Raises:
        NetworkError: If the depth is not 6n + 4 with n ≥ 1 or is too large, or the width is 0.
    """
    for family in (_BASIC, _BOTTLENECK):
        found = family.depth_and_width(name)
        if found is not None:
            return WideResNet(*found, num_classes, bottleneck=family is _BOTTLENECK)
    raise NetworkError(
        f"'{name}' is not of the form wrn<depth>_<width>, as in wrn40_2, or of the form "
        "wrn<depth>_<width>_bottleneck."
    )


class WideResNets(NamedClassifiers):
    """The networks `wrn<depth>_<width>`, with basic or bottleneck blocks, which take no options."""

    name = "wide_resnet"
    also = (
        "Any other wrn<depth>_<width> with a depth of 6n + 4 will do as well, and any "
        "wrn<depth>_<width>_bottleneck."
    )

    def names(self) -> list[str]:
        """The networks of the papers; other depths and widths are known as well."""
        return ["wrn16_2", "wrn28_10", "wrn40_2", "wrn16_1_bottleneck"]

    def knows(self, name: str) -> bool:
        """Whether a name has one of the two forms."""
        return _BASIC.knows(name) or _BOTTLENECK.knows(name)

    def network(self, name: str, num_classes: int) -> WideResNet:
        """Builds the network of a depth and a width."""
        return wide_resnet(name, num_classes)


SOURCE = WideResNets()
