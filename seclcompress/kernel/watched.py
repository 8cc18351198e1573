"""Whether only values are asked of an operator, or somebody looks on who must see it as such."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

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
    """
    return (
        not torch.compiler.is_compiling()  # the first, so that nothing below is traced
        and all(_is_plain(tensor) for tensor in tensors if tensor is not None)
        and torch._C._get_tracing_state() is None
        and torch._C._len_torch_function_stack() == 0
        and _get_current_dispatch_mode() is None
        and torch._ops._len_torch_dispatch_stack_pre_dispatch() == 0
        and not beyond_backward()
    )


def _is_plain(tensor: Tensor) -> bool:
    ordinary = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    return ordinary and torch._C._dispatch_keys(tensor).raw_repr() in _PLAIN


def _plain_keys() -> frozenset[int]:
    """Of tensors in the CPU's memory, made outside and inside of inference mode."""
    keys = [torch._C._dispatch_keys(torch.empty(0, device="cpu")).raw_repr()]
    with torch.inference_mode():
        keys.append(torch._C._dispatch_keys(torch.empty(0, device="cpu")).raw_repr())
    return frozenset(keys)


_PLAIN = _plain_keys()
