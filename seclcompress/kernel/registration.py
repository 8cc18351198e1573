"""What both operators are to torch, said once: schema, fake implementation, autograd, eager call."""

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
    """Makes `seclcompress::name` and `seclcompress::name_backward` known, on CPUs and GPUs.

    Args:
        name: Of the operator.
        schema: Its arguments and result, as torch.library writes them.
        backward_schema: Likewise of the operator that computes its gradients.
        forward: Checks its operands and computes.
        forward_fake: The same without values.
        backward: As `forward`, of the gradients. They cannot be differentiated again.
        backward_fake: The same without values.
        save_for_backward: As `setup_context` of an autograd function.
        differentiate: As `backward` of an autograd function.

    Returns:
        The operator without the dispatcher.
    """
    of_gradients = f"{name}_backward"
    for operator, signature, run, fake in (
        (name, schema, forward, forward_fake),
        (of_gradients, backward_schema, backward, backward_fake),
    ):
        qualified = f"seclcompress::{operator}"
        torch.library.define(qualified, signature)
        for device in ("cpu", "cuda"):
            torch.library.impl(qualified, device, run)
        torch.library.register_fake(qualified, fake)
    torch.library.register_autograd(
        f"seclcompress::{name}", differentiate, setup_context=save_for_backward
    )
    torch.library.register_autograd(
        f"seclcompress::{of_gradients}", _refuse_second_derivative, setup_context=_save_nothing
    )

    class Eager(torch.autograd.Function):
        """The operator without the dispatcher."""

        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Tensor:
            result = forward(*arguments)
            save_for_backward(ctx, arguments, result)
            return result

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
            return differentiate(ctx, grad)

    return Eager


def empty_gradients(a: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a stack's diagonals without their values."""
    contiguous = torch.contiguous_format
    return (
        torch.empty_like(a, memory_format=contiguous),
        torch.empty_like(d, memory_format=contiguous),
    )


def _refuse_second_derivative(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
    raise NotImplementedError(
        "seclcompress.kernel: an operator can be differentiated once, not twice. For second "
        "derivatives call seclcompress.stack.apply_stack, and dense_matrix beside it, with "
        "SECLCOMPRESS_KERNEL=0, as layers then do."
    )


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass
