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
    """Whether an operator may be called without torch's dispatcher.

    The round trip through the dispatcher to an operator written in Python takes 0.1 ms, longer than a
    small stack. So eager calls on plain tensors bypass it, unless a compiler, tracer, mode or transform
    is active, which must see the operator; tracers, modes and transforms of torch.func add dispatch
    keys of their own on this thread. Special tensors need the dispatcher, too: sparse, batched
    (`is_grads_batched`), negated, zero and fake ones have other dispatch keys than plain tensors.

    Args:
        *tensors: The operands; None for one that is left out.
    """
    if (
        torch.compiler.is_dynamo_compiling()  # asked first, so that nothing below is traced
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
    """The dispatch keys that `keys` finds on a new thread, outside and inside inference mode."""

    def both() -> frozenset[int]:
        outside = keys().raw_repr()
        with torch.inference_mode():
            return frozenset((outside, keys().raw_repr()))

    with ThreadPoolExecutor(1) as new_thread:  # the present thread may be in some mode
        return new_thread.submit(both).result()


_ORDINARY = (torch.Tensor, torch.nn.Parameter)
# The dispatch keys of a plain tensor in the CPU's memory, and of a thread without modes or
# transforms.
_PLAIN = _outside_and_inside_of_inference_mode(lambda: dispatch_keys(torch.empty(0, device="cpu")))
_QUIET = _outside_and_inside_of_inference_mode(included_dispatch_keys)
