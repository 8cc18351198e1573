"""The operator `seclcompress::acdc_matrix`: the matrix of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from seclcompress.kernel.checks import (
    TYPES,
    check_channels,
    check_dtype,
    check_factors,
    check_parameter,
    refuse,
)
from seclcompress.kernel.ops import backend
from seclcompress.kernel.registration import empty_gradients, register
from seclcompress.kernel.watched import nobody_watches

if TYPE_CHECKING:
    from torch import Tensor


def acdc_matrix(a: Tensor, d: Tensor, in_channels: int, out_channels: int) -> Tensor:
    """Computes the matrix W of a stack: acdc_stack(x, a, d, out_channels) is W x at every position.

    The stack is applied to the columns of the identity, or the transposed stack to its rows, whichever
    are fewer.

    Args:
        a: (layers, N), as in `acdc_stack`.
        d: (layers, N), likewise; converted to the dtype of a.
        in_channels: 1 to N.
        out_channels: 1 to N.

    Returns:
        (out_channels, in_channels) in the dtype of a. Differentiable once, in a and d.

    Raises:
        ValueError: If shapes or devices do not fit together, or the kernel does not know the dtype.
    """
    dtype = TYPES[a.dtype][1] if a.dtype in TYPES else a.dtype
    arguments = (a.to(dtype), d.to(dtype), in_channels, out_channels)
    if not nobody_watches(a, d):
        weight: Tensor = torch.ops.seclcompress.acdc_matrix(*arguments)
    elif torch.is_grad_enabled() and (a.requires_grad or d.requires_grad):
        weight = _Eager.apply(*arguments)
    else:
        weight = _forward(*arguments)
    return weight.to(a.dtype)


def _forward(a: Tensor, d: Tensor, in_channels: int, out_channels: int) -> Tensor:
    _check(a, d, in_channels, out_channels)
    return backend(a).matrix(a, d, in_channels, out_channels)


def _forward_fake(a: Tensor, d: Tensor, in_channels: int, out_channels: int) -> Tensor:
    _check(a, d, in_channels, out_channels)
    return a.new_empty(out_channels, in_channels)


def _backward(grad: Tensor, a: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    if grad.dim() != 2:
        raise refuse(
            f"the matrix's gradient has shape {tuple(grad.shape)}",
            "it must be (out_channels, in_channels)",
            "Pass the gradient of this operator's output",
        )
    _check(a, d, grad.shape[1], grad.shape[0])
    check_parameter("the matrix's gradient", grad, a, "a")
    return backend(a).matrix_gradients(grad, a, d)


def _backward_fake(
    grad: Tensor,  # noqa: ARG001
    a: Tensor,
    d: Tensor,
) -> tuple[Tensor, Tensor]:
    return empty_gradients(a, d)


def _check(a: Tensor, d: Tensor, in_channels: int, out_channels: int) -> None:
    check_dtype("a", a)
    n = check_factors(a, d)
    check_parameter("d", d, a, "a")
    check_channels("in_channels", in_channels, n)
    check_channels("out_channels", out_channels, n)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:2])


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    a, d = ctx.saved_tensors
    # With create_graph, backward goes through the dispatcher, which refuses its derivative.
    eager = not torch.is_grad_enabled() and nobody_watches(grad, a, d)
    backward = _backward if eager else torch.ops.seclcompress.acdc_matrix_backward
    gradients = backward(grad, a, d)
    wanted = zip(gradients, ctx.needs_input_grad[:2], strict=True)
    return (*(gradient if need else None for gradient, need in wanted), None, None)


_Eager = register(
    "acdc_matrix",
    "(Tensor a, Tensor d, SymInt in_channels, SymInt out_channels) -> Tensor",
    "(Tensor grad, Tensor a, Tensor d) -> (Tensor, Tensor)",
    forward=_forward,
    forward_fake=_forward_fake,
    backward=_backward,
    backward_fake=_backward_fake,
    save_for_backward=_save_for_backward,
    differentiate=_differentiate,
)
