"""The SECL authors' wide residual network and layer, written anew from what is known of them.

Their code is not here. What is known of `FastStackedConvACDC` with K layers: it computes
`unriffle(ours(riffle(x))) · a₁`, where `ours` is the paper's stack with A'₁ = 1,
A'_k = riffle(A_{K+2−k}) and D'_k = D_{K+1−k}; or it is that with the extra riffle, and D'_k is riffled,
too. It widens by repetition.
"""

from __future__ import annotations

import torch
from batch_norms import draw_batch_norms
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.stack import apply_stack
from seclcompress.transforms import expand, riffle, unriffle


class Diagonals(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.A = nn.Parameter(1 + 0.3 * torch.randn(n, 1))
        self.D = nn.Parameter(1 + 0.3 * torch.randn(n, 1))


class FastStacked(nn.Module):
    def __init__(self, inputs: int, outputs: int, depth: int, extra: bool) -> None:
        super().__init__()
        self.inputs, self.outputs, self.extra = inputs, outputs, extra
        self.layers = nn.ModuleList(Diagonals(max(inputs, outputs)) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        a = [layer.A[:, 0] for layer in self.layers]
        d = [layer.D[:, 0] for layer in self.layers]
        k = len(a)
        ours_a = [torch.ones_like(a[0])] + [riffle(a[k + 1 - i]) for i in range(2, k + 1)]
        ours_d = [d[k - i] for i in range(1, k + 1)]
        if self.extra:
            ours_d = [riffle(one) for one in ours_d]
        n = a[0].numel()
        y = riffle(expand(x.movedim(1, -1), n))
        y = apply_stack(y, torch.stack(ours_a), torch.stack(ours_d), n, extra_riffle=self.extra)
        return (unriffle(y) * a[0]).movedim(-1, 1)


class Separable(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, depth: int, extra: bool) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.pointwise = FastStacked(inputs, outputs, depth, extra)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.grouped(x))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, depth: int, extra: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = Separable(inputs, outputs, stride, depth, extra)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = Separable(outputs, outputs, 1, depth, extra)
        same = inputs == outputs
        self.convShortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        left = x if self.convShortcut is None else self.convShortcut(out)
        return left + self.conv2(F.relu(self.bn2(self.conv1(out))))


class Group(nn.Module):
    def __init__(self, inputs: int, outputs: int, n: int, stride: int, *how: int) -> None:
        super().__init__()
        rest = [Block(outputs, outputs, 1, *how) for _ in range(n - 1)]
        self.layer = nn.Sequential(Block(inputs, outputs, stride, *how), *rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class TheirWideResNet(nn.Module):
    """WRN(6n + 4, width), with every block convolution replaced."""

    def __init__(self, n: int, width: int, depth: int, extra: bool = False) -> None:
        super().__init__()
        sizes = [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.block1 = nn.Sequential(Group(sizes[0], sizes[1], n, 1, depth, extra))
        self.block2 = nn.Sequential(Group(sizes[1], sizes[2], n, 2, depth, extra))
        self.block3 = nn.Sequential(Group(sizes[2], sizes[3], n, 2, depth, extra))
        self.bn1 = nn.BatchNorm2d(sizes[3])
        self.fc = nn.Linear(sizes[3], 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


def theirs(n: int = 1, width: int = 1, depth: int = 3, extra: bool = False) -> TheirWideResNet:
    """A network of theirs with lively values everywhere, in eval mode."""
    torch.manual_seed(0)
    network = TheirWideResNet(n, width, depth, extra)
    draw_batch_norms(network, spread=0.3)
    return network.eval()
