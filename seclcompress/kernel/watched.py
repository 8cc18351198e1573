"""Detects tracers, modes and transforms, for which an operator must go through torch's dispatcher."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

from seclcompress.torch_private import (
    dispatch_keys,
    forward_mode_level,
    included_dispatch_keys,
    inside_a_transform,
    torch_function_modes,
)

if TYPE_CHECKING:
    from torch import Tensor


def beyond_backward() -> bool:
    """Whether forward-mode differentiation or a transform of torch.func is running."""
    return forward_mode_level() >= 0 or inside_a_transform()


def nobody_watches(*tensors: Tensor | None) -> bool:
    """Whether no compiler, tracer, mode, transform or odd tensor is there.

    The dispatcher's way to an operator that is written in Python takes 0.1 ms there and back, more
    than a small stack: eager calls on plain tensors do without. Which tensors are plain their
    dispatch keys say: sparse, batched (`is_grads_batched`), negated, zero and fake ones have others.
    Tracers, modes and transforms of torch.func have included keys of theirs for this thread.
    """
    if (
        torch.compiler.is_dynamo_compiling()  # the first, so that nothing below is traced
        or included_dispatch_keys().raw_repr() not in _QUIET
        or torch_function_modes() > 0
        or forward_mode_level() >= 0
    ):
        return False
    for tensor in tensors:
        if tensor is not None and not (
            type(tensor) in _ORDINARY and dispatch_keys(tensor).raw_repr() in _PLAIN
        ):
            return False
    return True


def _outside_and_inside_of_inference_mode(keys: Callable[[], Any]) -> frozenset[int]:
    def both() -> frozenset[int]:
        outside = keys().raw_repr()
        with torch.inference_mode():
            return frozenset((outside, keys().raw_repr()))

    with ThreadPoolExecutor(1) as new_thread:  # this one may be in some mode at present
        return new_thread.submit(both).result()


_ORDINARY = (torch.Tensor, torch.nn.Parameter)
# Of tensors in the CPU's memory, and of a thread that does nothing but compute.
_PLAIN = _outside_and_inside_of_inference_mode(lambda: dispatch_keys(torch.empty(0, device="cpu")))
_QUIET = _outside_and_inside_of_inference_mode(included_dispatch_keys)
