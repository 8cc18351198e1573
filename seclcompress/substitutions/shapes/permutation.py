"""Fixed permutations of channels: the riffle, a random one from a seed, or none."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from seclcompress.transforms import riffle, unriffle

PermutationKind: TypeAlias = Literal["riffle", "random", "none"]


class Permutation(nn.Module):
    """A fixed permutation of the last dimension.

    It has no parameters and no entry in a state: the same arguments make the same permutation, in every
    version of torch and NumPy and on every device.

    Args:
        kind: `riffle`, `random`, or `none`, which leaves everything in its place.
        length: The length N of what is permuted.
        seed: The seed of a random permutation.
        device: Where a random permutation's indices are kept. They have values even beside parameters on
            the meta device, because nothing would fill them in when a network is loaded.
    """

    forth: Tensor | None
    back: Tensor | None

    def __init__(
        self,
        kind: PermutationKind,
        length: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.kind = kind
        forth = back = None
        if kind == "random":
            # NumPy keeps the stream of RandomState as it is for ever, which torch does not promise.
            found = np.random.RandomState(seed).permutation(length)
            device = "cpu" if torch.device(device).type == "meta" else device
            forth = torch.as_tensor(found, dtype=torch.int64, device="cpu").to(device)
            back = torch.argsort(forth)
        self.register_buffer("forth", forth, persistent=False)
        self.register_buffer("back", back, persistent=False)

    def forward(self, x: Tensor, *, inverse: bool = False) -> Tensor:
        """Permutes the entries, or undoes that. Shape (..., N) to (..., N)."""
        if self.kind == "none":
            return x
        if self.kind == "riffle":
            return unriffle(x) if inverse else riffle(x)
        index = self.back if inverse else self.forth
        assert index is not None
        return x[..., index.to(x.device)]

    def extra_repr(self) -> str:
        """The kind."""
        return self.kind


def check_seed(kind: PermutationKind, seed: int) -> None:
    """Checks that a seed is given for a random permutation only.

    Raises:
        ValueError: If it would have no effect.
    """
    if seed and kind != "random":
        raise ValueError(f"permutation_seed={seed} has no effect with permutation={kind}")


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """ShuffleNet's channel shuffle of the last dimension; with two groups it is the riffle.

    Args:
        x: Shape (..., N).
        groups: A divisor of N. The entries are split into so many parts, and the parts interleaved.

    Returns:
        Shape (..., N): the first entry of each part, then the second of each, and so on.
    """
    return x.unflatten(-1, (groups, -1)).transpose(-1, -2).flatten(-2)
