"""Weights are made from factors in the factors' own precision, whatever autocast would do."""

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
