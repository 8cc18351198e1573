"""The operator by torch.fft: on GPUs, and on CPUs for lengths without an FFT plan.

A call processes the vectors in parts, whose size keeps its own memory below `SCRATCH_BYTES`, and the
backward pass runs the layers forward again instead of keeping their inputs. So the memory that the
operator needs does not grow with the number of positions (but a strided slice of an image is copied
once), and nothing is kept between calls. The vectors stay in Makhoul's order from layer to layer; A
is brought into that order once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from seclcompress.kernel import layout
from seclcompress.kernel.checks import TYPES
from seclcompress.transforms import (
    enter_order,
    expand,
    filter_gradients_ordered,
    filter_ordered,
    fold,
    leave_order,
    riffle_ordered,
    unriffle_ordered,
)

if TYPE_CHECKING:
    from torch import Tensor

#: The memory, roughly, that a call may hold beside its operands and results.
SCRATCH_BYTES = 2**28
#: Tensors of a part's size that exist at once in a layer: spectra, their products, reorderings.
_TEMPORARIES = 8


def run_layers(y: Tensor, a: Tensor, d: Tensor) -> Tensor:
    """Runs the layers on vectors in Makhoul's order, without `expand` and `fold`. Differentiable.

    Args:
        y: Shape (..., N).
        a: Shape (L, N), in natural order.
        d: Shape (L, N).

    Returns:
        Shape (..., N), in Makhoul's order.
    """
    for a_l, d_l in zip(enter_order(a), d, strict=True):
        y = _layer(y, a_l, d_l)
    return y


def _layer(y: Tensor, a: Tensor, d: Tensor) -> Tensor:
    """Runs one layer; y and a are in Makhoul's order."""
    return riffle_ordered(filter_ordered(y * a, d))


def run_transposed_layers(y: Tensor, a: Tensor, d: Tensor) -> Tensor:
    """Runs the transpose of `run_layers`, with the same shapes: the last layer first."""
    for a_l, d_l in zip(enter_order(a).flip(0), d.flip(0), strict=True):
        y = filter_ordered(unriffle_ordered(y), d_l) * a_l
    return y


def forward(
    x: Tensor,
    a: Tensor,
    d: Tensor,
    out_channels: int,
    bias: Tensor | None,
    scale: Tensor | None,
    transposed: bool,
) -> Tensor:
    """Computes `kernel.acdc_stack`, whose operands have been checked."""
    wide = TYPES[x.dtype][1]
    a, d = a.to(wide), d.to(wide)
    run = run_transposed_layers if transposed else run_layers
    y = layout.empty_like(x, out_channels)
    for part, result in _parts((x, y), a.shape[1], tensors=_TEMPORARIES):
        rows = run(enter_order(expand(part.to(wide), a.shape[1])), a, d)
        values = fold(leave_order(rows), out_channels)
        values = values if scale is None else values * scale.to(wide)
        result.copy_(values if bias is None else values + bias.to(wide))
    return y


def backward(
    grad: Tensor, x: Tensor, a: Tensor, d: Tensor, input_grad: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the gradients of x, a and d from that of the output; operands have been checked.

    Each part of the vectors runs forward once more, and every layer's input is kept until the gradient
    comes back to that layer. A layer multiplies by A, filters with D and riffles; the gradient goes the
    same way back, and filter and product each give the gradient of their diagonal.

    Args:
        grad: The output's gradient.
        x: The input.
        a: Shape (L, N).
        d: Shape (L, N).
        input_grad: Whether the gradient of x is wanted; it is empty otherwise.
    """
    wide, (layers, n) = TYPES[x.dtype][1], a.shape
    ordered, gains = enter_order(a.to(wide)), d.to(wide).contiguous()
    x_grad = layout.empty_like(x, x.shape[1]) if input_grad else x.new_empty(0)
    operands = (x, grad, x_grad) if input_grad else (x, grad)
    a_grad, d_grad = torch.zeros_like(ordered), torch.zeros_like(gains)
    for part, outer, *result in _parts(operands, n, tensors=layers + _TEMPORARIES):
        inputs = [enter_order(expand(part.to(wide), n))]
        for a_l, d_l in zip(ordered[:-1], gains[:-1], strict=True):
            inputs.append(_layer(inputs[-1], a_l, d_l))
        g = enter_order(expand(outer.to(wide), n))
        for layer in reversed(range(layers)):
            y = inputs.pop()
            g = unriffle_ordered(g)
            g, of_gain = filter_gradients_ordered(y * ordered[layer], gains[layer], g)
            d_grad[layer] += of_gain
            a_grad[layer] += (y * g).flatten(0, -2).sum(0)
            g = g * ordered[layer]
        if input_grad:
            result[0].copy_(fold(leave_order(g), x.shape[1]))
    return x_grad, leave_order(a_grad).to(a.dtype), d_grad.to(d.dtype)


def matrix(a: Tensor, d: Tensor, in_channels: int, out_channels: int) -> Tensor:
    """Computes `kernel.acdc_matrix`; a and d have been checked."""
    weight = a.new_empty(out_channels, in_channels)
    image, transposed = layout.matrix_as_image(weight)
    identity = torch.eye(image.shape[2], dtype=a.dtype, device=a.device)[None]
    image.copy_(forward(identity, a, d, image.shape[1], None, None, transposed))
    return weight


def matrix_gradients(grad: Tensor, a: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the gradients of a and d from that of the matrix; operands have been checked."""
    image, transposed = layout.matrix_as_image(grad)
    identity = torch.eye(image.shape[2], dtype=grad.dtype, device=grad.device)[None]
    x, outer = (image, identity) if transposed else (identity, image)  # see by_native
    return backward(outer, x, a, d, False)[1:]


def _parts(values: tuple[Tensor, ...], n: int, tensors: int) -> Iterator[list[Tensor]]:
    """Yields, part by part, views of shape (images, positions, channels) of each tensor.

    Args:
        values: Tensors (batch, channels, *spatial) that differ in the channels only. The views of those
            that `layout.empty_like` made can be written.
        n: The length N.
        tensors: How many tensors with N numbers a position must fit into `SCRATCH_BYTES` at once.
    """
    vectors = max(1, SCRATCH_BYTES // (tensors * n * 8))
    positions = math.prod(values[0].shape[2:])
    flat = [value.reshape(*value.shape[:2], positions).movedim(1, -1) for value in values]
    images, step = flat[0].shape[0], min(max(1, positions), vectors)
    at_once = vectors // step
    for image in range(0, images, at_once):
        for start in range(0, positions, step):
            yield [value[image : image + at_once, start : start + step] for value in flat]
