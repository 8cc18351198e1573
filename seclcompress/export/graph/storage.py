"""How the numbers in an ONNX file are stored: fewer bytes, made float32 by ordinary operations at load.

A number is stored as int8 with a scale a row, or as float16. `Cast` and `Mul` turn it back. They are
folded at load; ONNX Runtime does not fold `DequantizeLinear`, which it keeps for quantised layers.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from seclcompress.export.graph.values import Array, held

#: Fewer numbers than these are stored as float16.
_FEWEST = 64
#: A row of a matrix shorter than this shares its scale with its neighbours.
_SHORTEST_ROW = 16
#: A longer vector is no bias and no scale of channels, but a table of numbers that are alike.
_LONGEST_VECTOR = 4096
_FLOAT = ir.DataType.FLOAT


def store_compactly(model: ir.Model, dtype: str) -> None:
    """Changes how a model's float32 initialisers are stored, in place.

    Args:
        model: The model.
        dtype: `int8` for a scale a row, with float16 for what has no rows; or `float16`.
    """
    graph = model.graph
    for number, (name, value) in enumerate(list(graph.initializers.items())):
        tensor = value.const_value
        if value.dtype != _FLOAT or tensor is None:
            continue
        numbers = tensor.numpy()
        rows = numbers.ndim > 1 or numbers.size > _LONGEST_VECTOR
        if dtype == "int8" and numbers.size >= _FEWEST and rows:
            nodes = _as_int8(graph, f"w{number}", numbers)
        elif numbers.ndim and _fits_half(numbers):
            nodes = _as_half(graph, f"w{number}", numbers)
        else:
            continue
        value.replace_all_uses_with(nodes[-1].outputs[0])
        del graph.initializers[name]
        graph.insert_before(graph[0], nodes)


def rows_of(numbers: Array) -> Array:
    """The numbers as a matrix of the rows that share a scale: the last dimension's, if it is long."""
    if numbers.shape[-1] >= _SHORTEST_ROW:
        return numbers.reshape(-1, numbers.shape[-1])
    return numbers.reshape(numbers.shape[0], -1)


def quantised(rows: Array) -> tuple[Array, Array]:
    """Rows as int8, from -127 to 127, and the scale of each.

    A row has scale 1 where its own would be no normal float32: a row of zeros, and one of numbers so
    small that they count as zeros.

    Args:
        rows: Shape (rows, numbers), float32.
    """
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scales = (largest / 127).astype(np.float32)
    scales[scales < np.finfo(np.float32).tiny] = 1
    return np.clip(np.rint(rows / scales), -127, 127).astype(np.int8), scales


def _as_int8(graph: ir.Graph, name: str, numbers: Array) -> list[ir.Node]:
    rows = rows_of(numbers)
    small, scales = quantised(rows)
    # A scale a row can be multiplied in the numbers' own shape if a row is an entry of their first
    # dimension; otherwise they become rows first.
    shape = numbers.shape if len(rows) == len(numbers) else rows.shape
    nodes = [_cast(held(graph, name, small.reshape(shape)))]
    scales = scales.reshape(-1, *[1] * (len(shape) - 1))
    if scales.size > _FEWEST and _fits_half(scales):
        nodes.append(_cast(held(graph, f"{name}s", scales.astype(np.float16))))
        scale = nodes[-1].outputs[0]
    else:
        scale = held(graph, f"{name}s", scales)
    nodes.append(ir.Node("", "Mul", [nodes[0].outputs[0], scale]))
    if shape != numbers.shape:
        whole = held(graph, f"{name}d", np.array(numbers.shape, dtype=np.int64))
        nodes.append(ir.Node("", "Reshape", [nodes[-1].outputs[0], whole]))
    return nodes


def _as_half(graph: ir.Graph, name: str, numbers: Array) -> list[ir.Node]:
    return [_cast(held(graph, name, numbers.astype(np.float16)))]


def _fits_half(numbers: Array) -> bool:
    """Whether float16 holds numbers to its precision, relative to the largest."""
    largest = float(np.abs(numbers).max(initial=0))
    with np.errstate(over="ignore"):
        lost = np.abs(numbers.astype(np.float16).astype(np.float32) - numbers).max(initial=0)
    return bool(lost <= largest * 2**-10)


def _cast(value: ir.Value) -> ir.Node:
    return ir.Node("", "Cast", [value], [ir.AttrInt64("to", _FLOAT.value)])
