"""torch's convolution as a function of its weight, with all padding modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from seclcompress.substitutions.site import Geometry

CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, groups: int = 1
) -> Tensor:
    """Convolves a batch as torch's convolution module of this geometry does.

    Args:
        x: Shape (batch, in_channels, *spatial).
        weight: Shape (out_channels, in_channels ÷ groups, *kernel_size).
        bias: Shape (out_channels,), or None.
        geometry: Stride, padding, dilation and padding mode.
        groups: As in torch.

    Returns:
        Shape (batch, out_channels, *output_size).
    """
    padding = geometry.padding
    if geometry.padding_mode != "zeros":
        x, padding = pad(x, geometry, tuple(weight.shape[2:])), (0,) * len(geometry.stride)
    return CONVOLVE[len(geometry.stride)](
        x, weight, bias, geometry.stride, padding, geometry.dilation, groups
    )


def pad(x: Tensor, geometry: Geometry, kernel_size: tuple[int, ...]) -> Tensor:
    """Pads a batch as torch's convolution module with this kernel does.

    Args:
        x: Shape (batch, channels, *spatial).
        geometry: Padding, dilation and padding mode.
        kernel_size: One number per dimension; the amount of `same` padding depends on it.
    """
    sides = paddings(geometry, kernel_size)
    if not any(map(sum, sides)):
        return x
    mode = "constant" if geometry.padding_mode == "zeros" else geometry.padding_mode
    return F.pad(x, [side for pair in reversed(sides) for side in pair], mode=mode)


def paddings(geometry: Geometry, kernel_size: Sequence[int]) -> list[tuple[int, int]]:
    """What torch's convolution module with this kernel adds before and behind each dimension.

    Args:
        geometry: Padding and dilation.
        kernel_size: One number per dimension; the amount of `same` padding depends on it.
    """
    sides: list[tuple[int, int]] = []
    for dimension, size in enumerate(kernel_size):
        if geometry.padding == "same":  # an odd total puts the larger half at the end
            total = geometry.dilation[dimension] * (size - 1)
            sides.append((total // 2, total - total // 2))
        else:
            side = 0 if isinstance(geometry.padding, str) else geometry.padding[dimension]
            sides.append((side, side))
    return sides


def in_layout_of(x: Tensor, y: Tensor) -> Tensor:
    """Gives an output the memory layout of the input, as torch's convolutions do.

    Args:
        x: The input, shape (batch, channels, *spatial).
        y: The output, of as many dimensions.
    """
    channels_last = x.dim() == 4 and not x.is_contiguous() and x.stride(1) == 1
    return y.contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
