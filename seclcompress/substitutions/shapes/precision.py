"""Weights are made from factors in full precision, whatever autocast would do."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch
from torch import Tensor


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """A context in which products on a tensor's device keep their dtype.

    Autocast would multiply a dozen factors in half precision, and a weight made so would be kept for
    passes in full precision.

    Args:
        tensor: A tensor on the device in question.
    """
    if tensor.is_meta:  # autocast does not support the meta device
        return contextlib.nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which what has a dtype is multiplied: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in its `wide_dtype`."""
    return tensor.to(wide_dtype(tensor.dtype))
