"""The memory layouts that the kernel reads and writes without copying."""

from __future__ import annotations

import math

import torch

View = tuple[int, int, int, int, int, int, int]

#: Torch's channels-last format for a batch with this number of dimensions.
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def memory_format(x: torch.Tensor) -> torch.memory_format:
    """The memory format of x: channels last only if x has that layout and is not contiguous, too."""
    if x.is_contiguous():
        return torch.contiguous_format
    channels_last = CHANNELS_LAST.get(x.dim())
    if channels_last is None:
        return torch.contiguous_format
    # A strided slice of a channels-last image has gaps, but its layout still counts as channels
    # last.
    return channels_last if x.stride(1) == 1 else torch.contiguous_format


def readable(x: torch.Tensor) -> torch.Tensor:
    """Returns x itself if the kernel reads its layout quickly, else a copy.

    The kernel quickly reads contiguous images, and channels-last images with rows and columns left
    out, as a strided 1×1 convolution reads them. It can read images with any strides, but if neither
    channels nor positions lie side by side, a copy is quicker.
    """
    as_it_is = x.dim() <= 4 and (x.is_contiguous() or x.stride(1) == 1)
    return x if as_it_is else x.contiguous(memory_format=memory_format(x))


def empty_like(x: torch.Tensor, channels: int) -> torch.Tensor:
    """An uninitialised tensor with the layout of x (batch, c, *spatial) and `channels` channels."""
    return torch.empty(
        (x.shape[0], channels, *x.shape[2:]),
        dtype=x.dtype,
        device=x.device,
        memory_format=memory_format(x),
    )


def view(x: torch.Tensor) -> View:
    """Describes a tensor (batch, c, *spatial) to the compiled kernel, as `_native.pyi` says.

    The tensor is one that `readable` or `empty_like` has returned.
    """
    shape = x.shape
    channels, positions = shape[1], math.prod(shape[2:])
    if x.is_contiguous():
        return x.data_ptr(), channels, channels * positions, positions, 1, positions, 0
    image, channel, *space = x.stride()
    width, row = positions, 0
    if x.dim() > 4:  # channels last without gaps; strides of dimensions of size 1 may be anything
        image, channel, step = channels * positions, 1, channels
    else:
        step = space[-1] if space else 1
        if x.dim() == 4 and space[0] != shape[3] * step:
            width, row = shape[3], space[0]
    return x.data_ptr(), channels, image, channel, step, width, row


def matrix_as_image(weight: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """Views a stack's matrix as the image that a stack computes from an identity.

    The stack makes the matrix column by column, and the transposed stack makes it row by row. The one
    that runs on fewer positions is taken.

    Args:
        weight: (out_channels, in_channels).

    Returns:
        A view (1, channels, positions) of the matrix, and whether the transposed stack makes it.
    """
    out_channels, in_channels = weight.shape
    transposed = out_channels <= in_channels
    return (weight.mT if transposed else weight)[None], transposed
