"""Small networks whose channels are joined in all ways, for tests of what loses channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seclcompress import networks
from seclcompress.graph import Group, channel_groups
from seclcompress.slim import readers


def _layer(inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Grouped(nn.Module):
    """Residual sums around a convolution with groups, and around a depthwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _layer(3, 16, 3)
        self.grouped = nn.Sequential(_layer(16, 32), _layer(32, 32, 3, groups=4), _layer(32, 16))
        self.depthwise = nn.Sequential(_layer(16, 48), _layer(48, 48, 3, groups=48), _layer(48, 16))
        self.classifier = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        stream = self.stem(images)
        stream = stream + self.grouped(stream)
        stream = stream + self.depthwise(stream)
        outputs: Tensor = self.classifier(stream.mean((2, 3)))
        return outputs


#: Residual sums with strides; groups in convolutions and depthwise ones; a map that is flattened into a
#: Linear.
NETWORKS = ["wrn10_1", "grouped", "conv_pool2_50_mnist"]


def made(name: str) -> tuple[nn.Module, list[Group], Tensor]:
    """One of them in evaluation mode, its groups that have readers, and images for it."""
    torch.manual_seed(0)
    size = (1, 28, 28) if name == "conv_pool2_50_mnist" else (3, 32, 32)
    network: nn.Module = (
        Grouped() if name == "grouped" else networks.build_untrained(networks.named_spec(name, 10))
    )
    network.eval()
    for module in network.modules():  # values of their own, so that batch norms do something
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    groups = [one for one in channel_groups(network, size).groups if readers(network, one)]
    return network, groups, torch.rand(16, *size)
