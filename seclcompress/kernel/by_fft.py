"""The operator by torch.fft: on GPUs, and on CPUs for lengths without an FFT plan.

Vectors go through it some at a time, as many as keep its own memory below `SCRATCH_BYTES`, and the
backward pass runs the layers forward again: what it needs does not grow with the number of positions
(an input with rows and columns left out is copied once), and no call leaves anything behind but its
result. The vectors stay in Makhoul's order from layer to layer; A is brought into it once.
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

#: What a call may hold beside its operands and results, roughly.
SCRATCH_BYTES = 2**28
#: Tensors of a part's size that live at once in a layer: spectra, their products, reorderings.
_TEMPORARIES = 8


def run_layers(y: Tensor, a: Tensor, d: Tensor) -> Tensor:
    """The layers on vectors in Makhoul's order, without `expand` and `fold`. Differentiable.

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
    """One layer; y and a in Makhoul's order."""
    return riffle_ordered(filter_ordered(y * a, d))


def run_transposed_layers(y: Tensor, a: Tensor, d: Tensor) -> Tensor:
    """The transpose of `run_layers`."""
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
    """The operator, see `kernel.acdc_stack`; its operands have been checked."""
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
    """Gradients of x (empty where it is not wanted), a and d; operands have been checked."""
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
    """The operator of `kernel.matrix`; a and d have been checked."""
    weight = a.new_empty(out_channels, in_channels)
    image, transposed = layout.matrix_as_image(weight)
    identity = torch.eye(image.shape[2], dtype=a.dtype, device=a.device)[None]
    image.copy_(forward(identity, a, d, image.shape[1], None, None, transposed))
    return weight


def matrix_gradients(grad: Tensor, a: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a and d from that of the matrix; operands have been checked."""
    image, transposed = layout.matrix_as_image(grad)
    identity = torch.eye(image.shape[2], dtype=grad.dtype, device=grad.device)[None]
    x, outer = (image, identity) if transposed else (identity, image)  # see by_native
    return backward(outer, x, a, d, False)[1:]


def _parts(values: tuple[Tensor, ...], n: int, tensors: int) -> Iterator[list[Tensor]]:
    """Views (images, positions, channels) of a few positions of each tensor, one after another."""
    vectors = max(1, SCRATCH_BYTES // (tensors * n * 8))
    positions = math.prod(values[0].shape[2:])
    flat = [value.reshape(*value.shape[:2], positions).movedim(1, -1) for value in values]
    images, step = flat[0].shape[0], min(max(1, positions), vectors)
    at_once = vectors // step
    for image in range(0, images, at_once):
        for start in range(0, positions, step):
            yield [value[image : image + at_once, start : start + step] for value in flat]
