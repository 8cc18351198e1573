"""Registers an operator with torch: schema, fake implementation, autograd and an eager call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


def register(
    name: str,
    schema: str,
    backward_schema: str,
    *,
    forward: Callable[..., Tensor],
    forward_fake: Callable[..., Tensor],
    backward: Callable[..., tuple[Tensor, ...]],
    backward_fake: Callable[..., tuple[Tensor, ...]],
    save_for_backward: Callable[[Any, tuple[Any, ...], Tensor], None],
    differentiate: Callable[[Any, Tensor], tuple[Tensor | None, ...]],
) -> type[torch.autograd.Function]:
    """Registers `seclcompress::name` and `seclcompress::name_backward` for CPUs and GPUs.

    Args:
        name: The operator's name.
        schema: Its arguments and result, as torch.library writes them.
        backward_schema: The same for the operator that computes its gradients.
        forward: Checks the operands and computes the result.
        forward_fake: Returns an empty result of the right shape and layout.
        backward: Checks the operands and computes the gradients, which cannot be differentiated again.
        backward_fake: Returns empty gradients of the right shapes and layouts.
        save_for_backward: Like `setup_context` of an autograd function.
        differentiate: Like `backward` of an autograd function.

    Returns:
        An autograd function that calls the operator without torch's dispatcher.
    """
    of_gradients = f"{name}_backward"
    register_for_inference(name, schema, forward=forward, fake=forward_fake)
    register_for_inference(of_gradients, backward_schema, forward=backward, fake=backward_fake)
    torch.library.register_autograd(
        f"seclcompress::{name}", differentiate, setup_context=save_for_backward
    )
    torch.library.register_autograd(
        f"seclcompress::{of_gradients}", _refuse_second_derivative, setup_context=_save_nothing
    )

    class Eager(torch.autograd.Function):
        """The operator, called without torch's dispatcher."""

        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Tensor:
            result = forward(*arguments)
            save_for_backward(ctx, arguments, result)
            return result

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
            return differentiate(ctx, grad)

    return Eager


def register_for_inference(
    name: str, schema: str, *, forward: Callable[..., Any], fake: Callable[..., Any]
) -> None:
    """Registers `seclcompress::name` for CPUs and GPUs, without a derivative.

    Args:
        name: The operator's name.
        schema: Its arguments and result, as torch.library writes them.
        forward: Checks the operands and computes the result.
        fake: Returns an empty result of the right shape and layout.
    """
    qualified = f"seclcompress::{name}"
    torch.library.define(qualified, schema)
    for device in ("cpu", "cuda"):
        torch.library.impl(qualified, device, forward)
    torch.library.register_fake(qualified, fake)


def empty_gradients(a: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Empty gradients of a stack's diagonals, for a fake implementation."""
    contiguous = torch.contiguous_format
    return (
        torch.empty_like(a, memory_format=contiguous),
        torch.empty_like(d, memory_format=contiguous),
    )


def _refuse_second_derivative(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
    raise NotImplementedError(
        "seclcompress.kernel: an operator can be differentiated once, not twice. For second "
        "derivatives call seclcompress.stack.apply_stack, and stack_matrix beside it, with "
        "SECLCOMPRESS_KERNEL=0, as layers then do."
    )


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass
