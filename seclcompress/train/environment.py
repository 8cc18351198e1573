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


def layout(settings: TrainingSettings, data: Data) -> torch.memory_format:
    """The memory layout of images and of 4-dimensional weights in a run."""
    flat = len(data.input_size) == 3
    return torch.channels_last if settings.channels_last and flat else torch.contiguous_format


def lay_out(network: nn.Module, settings: TrainingSettings, data: Data) -> nn.Module:
    """Puts a network's 4-dimensional weights into the images' memory layout; returns the network."""
    wanted = layout(settings, data)
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=wanted)
    return network
