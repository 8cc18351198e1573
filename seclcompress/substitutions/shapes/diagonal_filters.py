"""Depthwise filters A C D C⁻¹ from two diagonals a channel: `2k` numbers instead of `k²`.

SECL-LR: "Training Structured Efficient Convolutional Layers", 2018, Table 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seclcompress.substitutions.shapes.depthwise import FactoredDepthwise
from seclcompress.substitutions.site import Convolution
from seclcompress.transforms import dct_matrix


class DiagonalFilters(FactoredDepthwise):
    """A depthwise convolution whose k × k filters are `A C D C⁻¹`, with C the orthonormal DCT-II.

    Args:
        conv: The convolution to replace, see `refuse_filters`.
    """

    def __init__(self, conv: Convolution) -> None:
        super().__init__(conv)
        size = conv.kernel_size[0]
        shape = (2, conv.in_channels, size)
        if conv.weight.is_meta:
            a, d = torch.empty(shape, dtype=conv.weight.dtype, device="meta")
        else:
            a, d = torch.randn(shape, dtype=torch.float64)
            # A filter of norm 1 keeps the variance of white input.
            a /= _filters(a, d).flatten(1).norm(dim=1).clamp(min=1e-6)[:, None]
            a, d = a.to(conv.weight), d.to(conv.weight)
        self.a, self.d = nn.Parameter(a.clone()), nn.Parameter(d.clone())

    def factors(self) -> list[nn.Parameter]:
        """The diagonals A and D of each channel, each of shape (in_channels, k)."""
        return [self.a, self.d]

    def make_weight(self) -> Tensor:
        """Multiplies the filters out, shape (in_channels, 1, k, k)."""
        return _filters(self.a, self.d).unsqueeze(1)


def filter_parameters(conv: Convolution) -> int:
    """Numbers a filter is made from: `2k`."""
    return 2 * conv.kernel_size[0]


def refuse_filters(conv: Convolution) -> str | None:
    """Why a convolution's filters cannot be made so; None if they can, or it needs none (1×1)."""
    kernel = conv.kernel_size
    if all(size == 1 for size in kernel) or (len(kernel) == 2 and kernel[0] == kernel[1]):
        return None
    return f"a kernel of {'×'.join(map(str, kernel))} is no square, as depthwise=acdc needs one"


def _filters(a: Tensor, d: Tensor) -> Tensor:
    c = dct_matrix(a.shape[1], a.dtype, a.device)
    return (a[:, :, None] * c * d[:, None, :]) @ c.mT
