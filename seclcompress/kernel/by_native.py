"""The operator by the compiled kernel, if that was built and has an FFT plan for the length."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import torch

from seclcompress.kernel import layout
from seclcompress.kernel.checks import TYPES

try:
    from seclcompress.kernel import _native
except ImportError:  # installed without a compiler, or built for another platform
    _native = None  # type: ignore[assignment]

#: Whether the environment asks for plain torch.fft, which can be differentiated twice.
UNWANTED = os.environ.get("SECLCOMPRESS_KERNEL") == "0"
if UNWANTED:
    _native = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from torch import Tensor

    from seclcompress.kernel.convolve import Call

#: The instruction set to use, None for the best one. Only tests and benchmarks change it.
instruction_set: str | None = None

#: What the native calls take in place of a tensor that they read, and of one that they would write.
_IDENTITY = _NOT_WANTED = None


def instruction_sets() -> list[str]:
    """The instruction sets that were compiled and run here, the best first; none without the kernel."""
    return [] if _native is None else _native.kernels()


def there() -> bool:
    """Whether the compiled kernel was built."""
    return _native is not None


def has_fft_plan(n: int) -> bool:
    """Whether the compiled kernel was built and can run stacks of length n."""
    return _native is not None and 0 < n < 2**31 and _native.supports(n)


def forward(
    x: Tensor,
    a: Tensor,
    d: Tensor,
    out_channels: int,
    bias: Tensor | None,
    scale: Tensor | None,
    transposed: bool,
) -> Tensor:
    """Computes `kernel.acdc_stack`; its operands and `has_fft_plan` of N have been checked."""
    assert _native is not None
    if out_channels == x.shape[1] and x.is_contiguous():
        # The quickest way to allocate. Not in layout.empty_like, which also gets symbolic sizes.
        y = torch.empty_like(x)
    else:
        y = layout.empty_like(x, out_channels)
    x = layout.readable(x)
    a, d = _parameter(a, x), _parameter(d, x)
    affine = [None if value is None else _parameter(value, x) for value in (scale, bias)]
    if y.numel() > 0:
        factor, summand = (0 if value is None else value.data_ptr() for value in affine)
        views = layout.view(x), layout.view(y)
        _native.forward(_common_arguments(x, a, d), *views, factor, summand, transposed)
    return y


def backward(
    grad: Tensor, x: Tensor, a: Tensor, d: Tensor, input_grad: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the gradients of x (empty if not wanted), a and d; operands have been checked."""
    assert _native is not None
    x_grad = layout.empty_like(x, x.shape[1]) if input_grad else x.new_empty(0)
    x, grad = layout.readable(x), layout.readable(grad.to(x.dtype))
    a_dtype, d_dtype = a.dtype, d.dtype
    a, d = _parameter(a, x), _parameter(d, x)
    a_grad, d_grad = torch.zeros_like(a), torch.zeros_like(d)
    if x.numel() > 0:
        _native.backward(
            _common_arguments(x, a, d),
            layout.view(x),
            layout.view(grad),
            layout.view(x_grad) if input_grad else _NOT_WANTED,
            a_grad.data_ptr(),
            d_grad.data_ptr(),
        )
    return x_grad, a_grad.to(a_dtype), d_grad.to(d_dtype)


def matrix(a: Tensor, d: Tensor, in_channels: int, out_channels: int) -> Tensor:
    """Computes `kernel.acdc_matrix`; a, d and `has_fft_plan` of N have been checked."""
    assert _native is not None
    weight = a.new_empty(out_channels, in_channels)
    image, transposed = layout.matrix_as_image(weight)
    a, d = _parameter(a, weight), _parameter(d, weight)
    common = _common_arguments(image, a, d)
    _native.forward(common, _IDENTITY, layout.view(image), 0, 0, transposed)
    return weight


def matrix_gradients(grad: Tensor, a: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the gradients of a and d from that of the matrix; operands have been checked."""
    assert _native is not None
    image, transposed = layout.matrix_as_image(grad)
    image = layout.readable(image)
    a_dtype, d_dtype = a.dtype, d.dtype
    a, d = _parameter(a, grad), _parameter(d, grad)
    a_grad, d_grad = torch.empty_like(a), torch.empty_like(d)
    view = layout.view(image)
    # The transposed stack on the identity has the same gradients as the stack itself if the
    # matrix's gradient is its input and the identity the gradient of its output.
    x, outer = (view, _IDENTITY) if transposed else (_IDENTITY, view)
    common = _common_arguments(image, a, d)
    _native.backward(common, x, outer, _NOT_WANTED, a_grad.data_ptr(), d_grad.data_ptr())
    return a_grad.to(a_dtype), d_grad.to(d_dtype)


def convolve(call: Call, shape: tuple[int, ...]) -> Tensor:
    """Computes `kernel.convolve` for float32; operands and the output's shape have been checked."""
    assert _native is not None
    last = torch.channels_last
    y = torch.empty(shape, dtype=call.x.dtype, memory_format=last)
    if y.numel() == 0:
        return y
    x, *parts, residual = call.tensors
    x = x.contiguous(memory_format=last)
    residual = None if residual is None else residual.expand(shape).contiguous(memory_format=last)
    operands = (*(None if value is None else value.contiguous() for value in parts), residual)
    batch, channels, rows, columns = x.shape
    _native.convolve(
        instruction_set,
        torch.get_num_threads(),
        (batch, rows, columns, channels),
        (*shape[2:], shape[1]),
        (1, 1) if call.filters is None else tuple(call.filters.shape[:2]),
        tuple(call.stride),
        tuple(call.padding),
        tuple(call.dilation),
        x.data_ptr(),
        tuple(0 if value is None else value.data_ptr() for value in operands),
        call.relu,
        y.data_ptr(),
    )
    return y


def _parameter(value: Tensor, x: Tensor) -> Tensor:
    """Returns a parameter as the kernel reads it: contiguous, in the dtype of the computation."""
    dtype = TYPES[x.dtype][1]
    if value.dtype == dtype and value.is_contiguous():
        return value
    return value.detach().to(dtype).contiguous()


def _common_arguments(x: Tensor, a: Tensor, d: Tensor) -> tuple[Any, ...]:
    """The arguments with which both native calls begin. The caller keeps x, a and d alive."""
    layers, n = a.shape
    return (
        instruction_set,
        TYPES[x.dtype][0],
        n,
        layers,
        torch.get_num_threads(),
        x.shape[0],
        math.prod(x.shape[2:]),
        a.data_ptr(),
        d.data_ptr(),
    )
