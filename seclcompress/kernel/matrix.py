"""The operator `seclcompress::acdc_matrix`: the dense matrix of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from seclcompress.kernel.checks import TYPES, check_dtype, check_factors, check_parameter, refuse
from seclcompress.kernel.ops import backend, refuse_second_derivative, save_nothing
from seclcompress.kernel.watched import nobody_watches

if TYPE_CHECKING:
    from torch import Tensor


def dense_weight(a: Tensor, d: Tensor, in_channels: int, out_channels: int) -> Tensor:
    """The matrix of a stack: acdc_stack(x, a, d, out_channels) is W x at every position.

    It is the stack applied to the columns of the identity, or the transposed stack to its rows:
    whichever are fewer.

    Args:
        a: (layers, N), as in `acdc_stack`.
        d: (layers, N), likewise; converted to the dtype of a.
        in_channels: 1 to N.
        out_channels: 1 to N.

    Returns:
        (out_channels, in_channels) in the dtype of a. Differentiable once, in a and d.

    Raises:
        ValueError: shapes or devices that do not fit together, or a dtype that the kernel does not know.
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
    contiguous = torch.contiguous_format
    return (
        torch.empty_like(a, memory_format=contiguous),
        torch.empty_like(d, memory_format=contiguous),
    )


def _check(a: Tensor, d: Tensor, in_channels: int, out_channels: int) -> None:
    check_dtype("a", a)
    n = check_factors(a, d)
    check_parameter("d", d, a, "a")
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if not 1 <= channels <= n:
            raise refuse(
                f"{name} is {channels}", f"it must be 1 to N = {n}", "Give the stack a larger N"
            )


class _Eager(torch.autograd.Function):
    """The operator without the dispatcher."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        weight = _forward(*arguments)
        _save_for_backward(ctx, arguments, weight)
        return weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _differentiate(ctx, grad)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:2])


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    a, d = ctx.saved_tensors
    # With a graph of the gradient wanted, the operator refuses it.
    eager = not torch.is_grad_enabled() and nobody_watches(grad, a, d)
    backward = _backward if eager else torch.ops.seclcompress.acdc_matrix_backward
    gradients = backward(grad, a, d)
    wanted = zip(gradients, ctx.needs_input_grad[:2], strict=True)
    return (*(gradient if need else None for gradient, need in wanted), None, None)


_FORWARD = "seclcompress::acdc_matrix"
_BACKWARD = "seclcompress::acdc_matrix_backward"

torch.library.define(
    _FORWARD, "(Tensor a, Tensor d, SymInt in_channels, SymInt out_channels) -> Tensor"
)
torch.library.define(_BACKWARD, "(Tensor grad, Tensor a, Tensor d) -> (Tensor, Tensor)")
for _device in ("cpu", "cuda"):
    torch.library.impl(_FORWARD, _device, _forward)
    torch.library.impl(_BACKWARD, _device, _backward)
torch.library.register_fake(_FORWARD, _forward_fake)
torch.library.register_fake(_BACKWARD, _backward_fake)
torch.library.register_autograd(_FORWARD, _differentiate, setup_context=_save_for_backward)
torch.library.register_autograd(_BACKWARD, refuse_second_derivative, setup_context=save_nothing)
