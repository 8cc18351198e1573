"""Global settings of torch that a run changes, and the run's precision and memory layout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from seclcompress.data import Data
from seclcompress.settings.training import TrainingSettings

_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(settings: TrainingSettings, device: str) -> Any:
    """A context that computes in half precision where that is safe; no effect if `amp` is off."""
    kind = torch.device(device).type
    dtype = _AMP.get(settings.amp, torch.bfloat16)
    return torch.autocast(kind, dtype, enabled=settings.amp != "off")


@contextlib.contextmanager
def flushed_subnormals() -> Iterator[None]:
    """Flushes subnormal numbers to zero while the block runs.

    Products of many small factors become subnormal numbers, with which a CPU computes slowly. The
    setting applies to the whole process, so it is restored after the block.
    """
    smallest = torch.tensor([5e-324], dtype=torch.float64)
    flushed_before = bool((smallest * 1 == 0).all())
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed_before)


#: Input channels below which oneDNN 3.12 writes past its memory in the backward pass of a strided 1×1
#: convolution in channels_last (uxlfoundation/oneDNN#6035): the vector lengths of AVX-512.
_TOO_FEW_CHANNELS = 16


def layout(network: nn.Module, settings: TrainingSettings, data: Data) -> torch.memory_format:
    """The memory layout of images and of 4-dimensional weights in a run.

    A network stays in torch's usual layout where a layer of it would make oneDNN, which computes
    convolutions on CPUs, corrupt the memory of the process.

    Args:
        network: The network on its device.
        settings: Whether channels_last is wanted.
        data: The data set; only two-dimensional images have that layout.
    """
    flat = len(data.input_size) == 3
    if settings.channels_last and flat and not _overflows(network):
        return torch.channels_last
    return torch.contiguous_format


def _overflows(network: nn.Module) -> bool:
    if next(network.parameters()).device.type != "cpu":
        return False
    return any(map(_is_thin_and_strided, network.modules()))


def _is_thin_and_strided(module: nn.Module) -> bool:
    """Whether a layer may run as a strided 1×1 convolution of few channels, a structured one, too."""
    channels = getattr(module, "in_channels", None)
    kernel, stride = getattr(module, "kernel_size", None), getattr(module, "stride", None)
    return (
        isinstance(channels, int)
        and channels < _TOO_FEW_CHANNELS
        and isinstance(kernel, tuple)
        and isinstance(stride, tuple)
        and all(side == 1 for side in kernel)
        and any(step > 1 for step in stride)
    )


def lay_out(network: nn.Module, settings: TrainingSettings, data: Data) -> nn.Module:
    """Puts a network's 4-dimensional weights into the images' memory layout; returns the network."""
    wanted = layout(network, settings, data)
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=wanted)
    return network
