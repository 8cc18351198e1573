"""The operator `seclcompress::acdc_stack` and the functions that call it.

One layer is x -> riffle(idct(d * dct(a * x))) along the channels, with the orthonormal DCT-II and
its inverse. On CPUs the compiled kernel (`by_native`) runs a stack if it was built and has an FFT plan
for N; otherwise, and on GPUs, torch.fft runs it (`by_fft`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from seclcompress.kernel import by_fft, by_native, layout
from seclcompress.kernel.checks import TYPES, check_parameter, check_stack, refuse
from seclcompress.kernel.registration import empty_gradients, register
from seclcompress.kernel.watched import beyond_backward, nobody_watches

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor


def available() -> bool:
    """Whether the compiled kernel was built and can be loaded."""
    return bool(by_native.instruction_sets())


def description() -> str:
    """Which kernel runs fast layers on this machine's CPU, in words for a report."""
    if by_native.UNWANTED:
        return "fused kernel switched off (SECLCOMPRESS_KERNEL=0)"
    sets = by_native.instruction_sets()
    return f"fused kernel for {sets[0]}" if sets else "no fused kernel (built without a compiler)"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def supports(n: int, dtype: torch.dtype, device: torch.device | str) -> bool:
    """Whether the compiled kernel can run a stack.

    Args:
        n: The length N of the transforms, `a.shape[1]`. It may have the prime factors 2, 3, 5, 7.
        dtype: The input's dtype.
        device: The input's device.

    Returns:
        False also while forward-mode differentiation or a transform of torch.func is running: the
        operator only implements backward.
    """
    return (
        not beyond_backward()
        and dtype in TYPES
        and _kind(device) == "cpu"
        and by_native.has_fft_plan(n)
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def worthwhile(n: int, dtype: torch.dtype, device: torch.device | str) -> bool:
    """Whether layers should run a stack by this operator: with the compiled kernel, or on a GPU.

    On a GPU the operator, unlike the same transforms one by one, needs no memory for each layer. (Its
    speed on a GPU has not been measured.)

    Args:
        n: As in `supports`.
        dtype: The input's dtype.
        device: The input's device.
    """
    if _kind(device) == "cuda":
        return dtype in TYPES and not by_native.UNWANTED and not beyond_backward()
    return supports(n, dtype, device)


def _kind(device: torch.device | str) -> str:
    return device.type if isinstance(device, torch.device) else torch.device(device).type


def acdc_stack(
    x: Tensor,
    a: Tensor,
    d: Tensor,
    out_channels: int,
    bias: Tensor | None = None,
    *,
    scale: Tensor | None = None,
    transposed: bool = False,
) -> Tensor:
    """Applies a stack of ACDC layers to the channels of x.

    The c_in input channels are repeated up to N (channel i of the stack is x's i mod c_in), and
    output channel j is the sum of the stack's channels i with i mod out_channels = j.

    Args:
        x: (batch, c_in, *spatial) with c_in <= N; float32, float64 or bfloat16, which is computed in
            float32. Contiguous inputs and channels-last ones, also with rows and columns left out,
            are read as they are; others are copied.
        a: (layers, N), the diagonals before the DCTs; in the dtype of x, for bfloat16 also float32.
        d: (layers, N), the diagonals between DCT and inverse DCT, likewise.
        out_channels: 1 to N.
        bias: (out_channels,), likewise.
        scale: (out_channels,), likewise: output channels are multiplied by it before the bias is
            added, as batch norm does.
        transposed: Whether to apply the transposed stack. If the stack from p to q channels
            multiplies by W, of shape (q, p), the transposed one takes q channels to p and multiplies
            by Wᵀ.

    Returns:
        (batch, out_channels, *spatial) in the dtype and memory format of x. Differentiable once,
        in x, a, d, bias and scale.

    Raises:
        ValueError: If shapes, dtypes or devices do not fit together.
    """
    arguments = (x, a, d, out_channels, bias, scale, transposed)
    operands = (x, a, d, bias, scale)
    if not nobody_watches(*operands):
        result: Tensor = torch.ops.seclcompress.acdc_stack(*arguments)
    elif torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in operands):
        result = _Eager.apply(*arguments)
    else:
        result = _forward(*arguments)
    return result


def backend(a: Tensor) -> ModuleType:
    """The module that runs stacks with these diagonals: `by_native` or `by_fft`."""
    return by_native if a.is_cpu and by_native.has_fft_plan(a.shape[1]) else by_fft


def _forward(
    x: Tensor,
    a: Tensor,
    d: Tensor,
    out_channels: int,
    bias: Tensor | None,
    scale: Tensor | None,
    transposed: bool,
) -> Tensor:
    check_stack(x, a, d, out_channels, bias, scale)
    return backend(a).forward(x, a, d, out_channels, bias, scale, transposed)


def _forward_fake(
    x: Tensor,
    a: Tensor,
    d: Tensor,
    out_channels: int,
    bias: Tensor | None,
    scale: Tensor | None,
    transposed: bool,  # noqa: ARG001
) -> Tensor:
    check_stack(x, a, d, out_channels, bias, scale)
    return layout.empty_like(x, out_channels)


def _backward(
    grad: Tensor, x: Tensor, a: Tensor, d: Tensor, input_grad: bool
) -> tuple[Tensor, Tensor, Tensor]:
    if grad.dim() != x.dim() or grad.shape[:1] + grad.shape[2:] != x.shape[:1] + x.shape[2:]:
        raise refuse(
            f"the output's gradient has shape {tuple(grad.shape)} and x {tuple(x.shape)}",
            "they must differ in the channels only",
            "Pass the gradient of this operator's output",
        )
    check_stack(x, a, d, grad.shape[1])
    check_parameter("the output's gradient", grad, x)
    return backend(a).backward(grad, x, a, d, input_grad)


def _backward_fake(
    grad: Tensor,  # noqa: ARG001
    x: Tensor,
    a: Tensor,
    d: Tensor,
    input_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    x_grad = layout.empty_like(x, x.shape[1]) if input_grad else x.new_empty(0)
    return (x_grad, *empty_gradients(a, d))


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    x, a, d, _, bias, scale, ctx.transposed = inputs
    ctx.save_for_backward(x, a, d, scale)
    ctx.bias_dtype = None if bias is None else bias.dtype


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, a, d, scale = ctx.saved_tensors
    x_grad, a_grad, d_grad, bias_grad, scale_grad = None, None, None, None, None
    wanted, grad = ctx.needs_input_grad[0], grad.to(x.dtype)
    positions = [dim for dim in range(grad.dim()) if dim != 1]
    if ctx.needs_input_grad[4]:
        bias_grad = grad.sum(positions, dtype=TYPES[grad.dtype][1]).to(ctx.bias_dtype)
    if ctx.needs_input_grad[5]:
        unscaled = acdc_stack(x, a, d, grad.shape[1], transposed=ctx.transposed)
        scale_grad = (grad * unscaled).sum(positions, dtype=TYPES[grad.dtype][1]).to(scale.dtype)
    if scale is not None:
        grad = grad * scale.to(grad.dtype).reshape(-1, *[1] * (grad.dim() - 2))
    # With create_graph, backward goes through the dispatcher, which refuses its derivative.
    eager = not torch.is_grad_enabled() and nobody_watches(grad, x, a, d)
    backward = _backward if eager else torch.ops.seclcompress.acdc_stack_backward
    if any(ctx.needs_input_grad[1:3]):
        if ctx.transposed:
            # g · Wᵀx = x · Wg, so a and d have the gradients of the stack itself on the input g,
            # with x as the gradient of its output.
            _, a_grad, d_grad = backward(x, grad, a, d, False)
        else:
            x_grad, a_grad, d_grad = backward(grad, x, a, d, wanted)
    if wanted and (ctx.transposed or a_grad is None):
        channels, turned = x.shape[1], not ctx.transposed
        image = grad.contiguous(memory_format=layout.memory_format(x))
        x_grad = acdc_stack(image, a, d, channels, transposed=turned)
    return (
        x_grad if ctx.needs_input_grad[0] else None,
        a_grad if ctx.needs_input_grad[1] else None,
        d_grad if ctx.needs_input_grad[2] else None,
        None,
        bias_grad,
        scale_grad,
        None,
    )


_Eager = register(
    "acdc_stack",
    "(Tensor x, Tensor a, Tensor d, SymInt out_channels, Tensor? bias, Tensor? scale, "
    "bool transposed) -> Tensor",
    "(Tensor grad, Tensor x, Tensor a, Tensor d, bool input_grad) -> (Tensor, Tensor, Tensor)",
    forward=_forward,
    forward_fake=_forward_fake,
    backward=_backward,
    backward_fake=_backward_fake,
    save_for_backward=_save_for_backward,
    differentiate=_differentiate,
)
