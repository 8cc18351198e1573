"""Whether only values are asked of an operator, or somebody looks on who must see it as such."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


def beyond_backward() -> bool:
    """Whether forward-mode differentiation or a transform of torch.func is running."""
    return (
        torch.autograd.forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def nobody_watches(*tensors: Tensor | None) -> bool:
    """Whether no compiler, tracer, mode, transform or odd tensor is there.

    The dispatcher's way to an operator that is written in Python takes 0.1 ms there and back, more
    than a small stack: eager calls on plain tensors do without. Which tensors are plain their
    dispatch keys say: sparse, batched (`is_grads_batched`), negated, zero and fake ones have others.
    Tracers, modes and transforms of torch.func have included keys of theirs for this thread.
    """
    if (
        torch.compiler.is_dynamo_compiling()  # the first, so that nothing below is traced
        or torch._C._dispatch_tls_local_include_set().raw_repr() not in _QUIET
        or torch._C._len_torch_function_stack() > 0
        or torch.autograd.forward_ad._current_level >= 0
    ):
        return False
    for tensor in tensors:
        if tensor is not None and not (
            type(tensor) in _ORDINARY and torch._C._dispatch_keys(tensor).raw_repr() in _PLAIN
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
_PLAIN = _outside_and_inside_of_inference_mode(
    lambda: torch._C._dispatch_keys(torch.empty(0, device="cpu"))
)
_QUIET = _outside_and_inside_of_inference_mode(torch._C._dispatch_tls_local_include_set)
