"""The stack by its definition, with float64 matrices, and comparisons with it."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

#: The largest `error` of the kernel for tensors of a dtype.
TOLERANCE = {torch.float32: 2e-6, torch.float64: 2e-14, torch.bfloat16: 6e-3}

#: Images in other layouts, by name.
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3),
    "sliced": lambda x: torch.cat([x, x], dim=1)[:, ::2],
    "expanded": lambda x: x[:1].expand_as(x),
    "misaligned": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view_as(x),
    "misaligned_channels_last": lambda x: (
        torch.cat([x.new_zeros(1), x.flatten()])[1:]
        .view(x.shape[0], *x.shape[2:], x.shape[1])
        .movedim(-1, 1)
    ),
}


@functools.cache
def dct_matrix(n: int) -> Tensor:
    """The orthonormal DCT-II as a matrix C: the transform of a column x is C x."""
    # The angles are reduced modulo a full turn as integers: large ones would lose digits.
    angles = torch.outer(torch.arange(n), 2 * torch.arange(n) + 1) % (4 * n)
    c = torch.cos(angles.double() * (math.pi / (2 * n))) * math.sqrt(2 / n)
    c[0] *= math.sqrt(0.5)
    return c


def riffle(n: int) -> Tensor:
    """The riffle (split in half, interleave) as indices: output channel i is input channel riffle[i]."""
    half = (n + 1) // 2
    order = torch.empty(n, dtype=torch.long)
    order[0::2], order[1::2] = torch.arange(half), torch.arange(half, n)
    return order


def reference(
    x: Tensor,
    a: Tensor,
    d: Tensor,
    out_channels: int,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """The stack by its definition, with float64 matrices; differentiable."""
    layers, n = a.shape
    c, order, channels = dct_matrix(n), riffle(n), torch.arange(n)
    y = x.double().movedim(1, -1)[..., channels % x.shape[1]]
    for layer in range(layers):
        y = (y * a[layer].double()) @ c.T
        y = ((y * d[layer].double()) @ c)[..., order]
    fold = (channels[:, None] % out_channels == torch.arange(out_channels)).double()
    y = y @ fold
    y = y if scale is None else y * scale.double()
    return (y if bias is None else y + bias.double()).movedim(-1, 1)


def reference_weight(a: Tensor, d: Tensor, in_channels: int, out_channels: int) -> Tensor:
    """The matrix of a stack."""
    return reference(torch.eye(in_channels).unsqueeze(0), a, d, out_channels)[0]


def error(value: Tensor, expected: Tensor, floor: float = 1e-3) -> float:
    """The largest difference relative to the largest expected value, or to `floor` if that is larger."""
    assert value.shape == expected.shape
    if expected.numel() == 0:
        return 0.0
    scale = max(expected.abs().max().item(), floor)
    return ((value.double() - expected.double()).abs().max() / scale).item()


def random_stack(n: int, layers: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Diagonals A and D near 1 in size, so that vectors keep theirs, with random signs."""
    generator = torch.Generator().manual_seed(seed)
    a, d = 1 + 0.3 * torch.randn(2, layers, n, generator=generator, dtype=torch.float64)
    signs = torch.randint(0, 2, (2, layers, n), generator=generator) * 2.0 - 1
    return (a * signs[0]).to(dtype), (d * signs[1]).to(dtype)


def assert_compiled_alike(module: torch.nn.Module, x: Tensor) -> None:
    """A compiled module is one graph without breaks and gives the same bits, gradients included."""
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    compiled(x).square().sum().backward()
    got = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    module(x).square().sum().backward()
    assert torch.equal(compiled(x), module(x))
    assert all(torch.equal(g, p.grad) for g, p in zip(got, module.parameters(), strict=True))
