"""Square matrices in which entries share a value: which entry has which of the stored values."""

from __future__ import annotations

import torch
from torch import Tensor

#: The patterns that `orbit_count` and `orbit_index` know.
PATTERNS = ("triangular", "chunk-4", "block-4", "triangle-4", "triangle-8")


def orbit_count(pattern: str, n: int) -> int:
    """Number of different values in an n×n matrix of a pattern.

    Args:
        pattern: One of `PATTERNS`.
        n: The side; for `chunk-4` a multiple of 4.
    """
    half = (n + 1) // 2
    counts = {
        "triangular": n * (n + 1) // 2,
        "chunk-4": n * n // 4,
        "block-4": half * half,
        "triangle-4": (n * n + 2 * n + n % 2) // 4,
        "triangle-8": half * (half + 1) // 2,
    }
    return counts[pattern]


def orbit_index(pattern: str, n: int, device: torch.device | str = "cpu") -> Tensor:
    """The number of the value that stands at each place, shape (n, n), from 0 to `orbit_count` − 1.

    Args:
        pattern: `triangular`: symmetric in the diagonal. `chunk-4`: the first quarter of the rows, four
            times. `block-4`: a block reflected to the right and downwards. `triangle-4`: symmetric in
            both diagonals. `triangle-8`: that, and reflected to the right as well.
        n: The side; for `chunk-4` a multiple of 4.
        device: Where the result lies.
    """
    i = torch.arange(n, device=device)[:, None].expand(n, n)
    j = i.mT
    if pattern == "chunk-4":
        return i % (n // 4) * n + j
    if pattern == "triangle-4":
        below = i + j > n - 1
        i, j = torch.where(below, n - 1 - j, i), torch.where(below, n - 1 - i, j)
        low, high = torch.minimum(i, j), torch.maximum(i, j)
        return low * (n + 1 - low) + high - low
    if pattern in ("block-4", "triangle-8"):
        i, j = torch.minimum(i, n - 1 - i), torch.minimum(j, n - 1 - j)
        if pattern == "block-4":
            return i * ((n + 1) // 2) + j
    low, high = torch.minimum(i, j), torch.maximum(i, j)
    return high * (high + 1) // 2 + low
