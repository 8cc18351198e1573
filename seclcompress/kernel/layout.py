"""Which memory layouts the kernel reads and writes as they are."""

from __future__ import annotations

import math

import torch

View = tuple[int, int, int, int, int]

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def memory_format(x: torch.Tensor) -> torch.memory_format:
    """The format of x: channels last only where x has it and is not contiguous as well."""
    channels_last = _CHANNELS_LAST.get(x.dim())
    if channels_last is None or x.is_contiguous():
        return torch.contiguous_format
    # A strided slice of a channels-last image has gaps, but the layout is still meant.
    return channels_last if x.stride(1) == 1 else torch.contiguous_format


def dense(x: torch.Tensor) -> torch.Tensor:
    """Returns x itself where the kernel can read it, else a contiguous copy."""
    return x.contiguous(memory_format=memory_format(x))


def empty_like(x: torch.Tensor, channels: int) -> torch.Tensor:
    """An uninitialised tensor like x (batch, c, *spatial), with another number of channels."""
    return torch.empty(
        (x.shape[0], channels, *x.shape[2:]),
        dtype=x.dtype,
        device=x.device,
        memory_format=memory_format(x),
    )


def view(x: torch.Tensor) -> View:
    """Describes a dense tensor (batch, c, *spatial) to the compiled kernel."""
    channels = x.shape[1]
    positions = math.prod(x.shape[2:])
    if memory_format(x) == torch.contiguous_format:
        return x.data_ptr(), channels, channels * positions, positions, 1
    return x.data_ptr(), channels, channels * positions, 1, channels


NO_TENSOR: View = (0, 0, 0, 0, 0)
