"""A convolution split in two as one operator, for inference: filters over space, a map of the channels.

The kernel takes one tile of positions after another, so that what the filters make is still in the cache
when the product reads it; a residual and ReLU are applied to what the product has in registers. Without
the kernel, and where a derivative is wanted, torch's own convolutions compute the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from seclcompress.cost import convolution_output_size
from seclcompress.kernel import by_native
from seclcompress.kernel.checks import refuse
from seclcompress.kernel.registration import register_for_inference
from seclcompress.kernel.watched import beyond_backward, nobody_watches

#: Output channels in a block of a packed matrix, as in csrc/convolve.h.
_BLOCK = 16


_Part: TypeAlias = Tensor | None


class Call(NamedTuple):
    """What `convolve` is called with; see there."""

    x: Tensor
    filters: _Part
    filter_bias: _Part
    matrix: _Part
    bias: _Part
    residual: _Part
    out_channels: int
    relu: bool
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]

    @property
    def tensors(self) -> tuple[Tensor, _Part, _Part, _Part, _Part, _Part]:
        """The operands that are tensors, in their order."""
        return self[:6]


def pack_matrix(matrix: Tensor) -> Tensor:
    """Arranges the matrix of a map of the channels as `convolve` reads it.

    Args:
        matrix: Shape (out_channels, in_channels).

    Returns:
        Shape (blocks, in_channels + 1, 16): 16 output channels in a block, one next to the other. Behind
        the last channel there are zeros. A last row of zeros in each block keeps blocks from lying at
        powers of two in memory, where they would share lines of the cache.
    """
    out_channels, in_channels = matrix.shape
    blocks = -(-out_channels // _BLOCK)
    packed = matrix.new_zeros(blocks, in_channels + 1, _BLOCK)
    rows = F.pad(matrix, (0, 0, 0, blocks * _BLOCK - out_channels))
    packed[:, :in_channels] = rows.reshape(blocks, _BLOCK, in_channels).mT
    return packed


def unpack_matrix(packed: Tensor, out_channels: int) -> Tensor:
    """The inverse of `pack_matrix`: shape (out_channels, in_channels)."""
    return packed[:, :-1].mT.flatten(0, 1)[:out_channels]


def convolve(
    x: Tensor,
    filters: Tensor | None,
    filter_bias: Tensor | None,
    matrix: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    out_channels: int,
    relu: bool,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
) -> Tensor:
    """Computes `relu(matrix · (filters * x + filter_bias) + bias + residual)`, each part if it is there.

    Args:
        x: (batch, channels, rows, columns), in any memory format; contiguous ones are copied once.
        filters: (kernel rows, kernel columns, channels), one filter for each channel; None for a map of
            the channels alone.
        filter_bias: (channels,), or None; only with filters.
        matrix: What `pack_matrix` returns; None for filters alone.
        bias: (out_channels,), or None; only with a matrix.
        residual: Is added before ReLU; its shape broadcasts to the output's. Or None.
        out_channels: The matrix's output channels; the channels of x without a matrix.
        relu: Whether negative outputs become zero.
        stride: Of rows and columns, as in torch's convolutions; as the next two, of the filters, or of
            the map where there are no filters.
        padding: Zeros on each side.
        dilation: Steps between the filters' taps.

    Returns:
        (batch, out_channels, output rows, output columns), channels last. If a derivative is wanted,
        torch's own operations have computed it and it can be differentiated.

    Raises:
        ValueError: If shapes do not fit together.
    """
    call = Call(
        x,
        filters,
        filter_bias,
        matrix,
        bias,
        residual,
        out_channels,
        relu,
        stride,
        padding,
        dilation,
    )
    wanted = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in call.tensors
    )
    if wanted or beyond_backward():
        _output_shape(call)
        return _by_torch(call)
    if nobody_watches(*call.tensors):
        return _computed(call)
    result: Tensor = torch.ops.seclcompress.convolve(*call)
    return result


def _computed(call: Call) -> Tensor:
    shape = _output_shape(call)
    if by_native.there() and all(
        t is None or (t.dtype == torch.float32 and t.is_cpu) for t in call.tensors
    ):
        return by_native.convolve(call, shape)
    return _by_torch(call)


def _by_torch(call: Call) -> Tensor:
    """Computes `convolve` by torch's own operations. Differentiable."""
    x, step, edge = call.x, list(call.stride), list(call.padding)
    if call.filters is not None:
        weight = call.filters.permute(2, 0, 1).unsqueeze(1)
        x = F.conv2d(x, weight, call.filter_bias, step, edge, list(call.dilation), x.shape[1])
        step, edge = [1, 1], [0, 0]
    if call.matrix is not None:
        weight = unpack_matrix(call.matrix, call.out_channels)[:, :, None, None]
        x = F.conv2d(x, weight, call.bias, step, edge)
    x = x if call.residual is None else x + call.residual
    return (x.relu() if call.relu else x).contiguous(memory_format=torch.channels_last)


def _forward(*operands: Any) -> Tensor:
    return _computed(Call(*operands))


def _fake(*operands: Any) -> Tensor:
    call = Call(*operands)
    shape = _output_shape(call)
    return call.x.new_empty(shape).contiguous(memory_format=torch.channels_last)


def _output_shape(call: Call) -> tuple[int, ...]:
    """The output's shape; raises ValueError unless the operands fit together."""
    x, filters, filter_bias, matrix, bias, residual, out_channels, _, *geometry = call
    stride, padding, dilation = geometry
    size = x.shape
    if len(size) != 4:
        raise refuse(
            f"x has shape {tuple(size)}", "it must be (batch, channels, rows, columns)", "Reshape x"
        )
    channels = size[1]
    if filters is None and matrix is None:
        raise refuse(
            "neither filters nor matrix", "there is nothing to compute", "Pass one of them"
        )
    if filters is not None and (filters.dim() != 3 or filters.shape[2] != channels):
        raise refuse(
            f"filters have shape {tuple(filters.shape)}",
            f"it must be (kernel rows, kernel columns, {channels}) for x {tuple(size)}",
            "Pass one filter for each channel of x",
        )
    blocks = -(-out_channels // _BLOCK)
    if matrix is not None and matrix.shape != (blocks, channels + 1, _BLOCK):
        raise refuse(
            f"matrix has shape {tuple(matrix.shape)}",
            f"for {channels} input and {out_channels} output channels it must be "
            f"{(blocks, channels + 1, _BLOCK)}",
            "Pass what pack_matrix returns",
        )
    if matrix is None and out_channels != channels:
        raise refuse(
            f"out_channels is {out_channels}",
            f"filters alone keep the {channels} channels of x",
            "Pass a matrix",
        )
    for name, value, of, number in (
        ("filter_bias", filter_bias, filters, channels),
        ("bias", bias, matrix, out_channels),
    ):
        if value is not None and (of is None or value.shape != (number,)):
            raise refuse(
                f"{name} has shape {tuple(value.shape)}",
                f"it must be ({number},), beside {'filters' if number is channels else 'a matrix'}",
                "Pass one number for each channel",
            )
    kernel = (1, 1) if filters is None else filters.shape[:2]
    for tap, step, edge, apart in zip(kernel, stride, padding, dilation, strict=True):
        if step < 1 or edge < 0 or apart < 1 or tap < 1:
            raise refuse(
                f"kernel {tuple(kernel)}, stride {tuple(stride)}, padding {tuple(padding)}, "
                f"dilation {tuple(dilation)}",
                "padding must be at least 0, the others at least 1",
                "Pass two numbers of each",
            )
    around = [2 * edge for edge in padding]
    sizes = convolution_output_size(size[2:], kernel, stride, around, dilation)
    if sizes[0] < 1 or sizes[1] < 1:
        raise refuse(
            f"x has {size[2]} × {size[3]} positions",
            f"with padding {tuple(padding)} that is less than the kernel {tuple(kernel)}, "
            f"dilation {tuple(dilation)}",
            "Pass a larger image",
        )
    shape = (size[0], out_channels, *sizes)
    if residual is not None and not _broadcasts(residual.shape, shape):
        raise refuse(
            f"residual has shape {tuple(residual.shape)}",
            f"it cannot be broadcast to the output's shape {shape}",
            "Pass a residual of the output's shape",
        )
    return shape


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    if len(shape) > len(to):
        return False
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return all(size in (1, wanted) for size, wanted in pairs)


register_for_inference(
    "convolve",
    "(Tensor x, Tensor? filters, Tensor? filter_bias, Tensor? matrix, Tensor? bias, "
    "Tensor? residual, SymInt out_channels, bool relu, int[2] stride, int[2] padding, "
    "int[2] dilation) -> Tensor",
    forward=_forward,
    fake=_fake,
)
