"""A balanced hash of a matrix' entries, by a seed, in integers alone.

It is the same on every device and in every version of torch. Only operations are used of which the
results are integers below 2⁶³.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from seclcompress.substitutions.graph import GraphWriter

_ROUNDS = 4
_LOW = 2**32 - 1
#: Odd multipliers below 2³¹: the first ones of the mixers `lowbias32` and `triple32` (C. Wellons, "Hash
#: Function Prospector", 2018) that are so small.
_FIRST, _SECOND = 0x7FEB352D, 0x31848BAB
_GOLDEN = 0x9E3779B9  # 2³² ÷ the golden ratio: keeps the steps' keys apart
_Number = TypeVar("_Number", Tensor, int)
_CHUNK = 2**16  # entries at a time: so many stay in the cache of a CPU


def signed_places(rows: int, columns: int, size: int, seed: int, device: torch.device) -> Tensor:
    """The place of each entry of a matrix in a table followed by its negative.

    Args:
        rows: Rows of the matrix.
        columns: Columns of the matrix.
        size: Numbers in the table. Each is used by ⌊rows · columns ÷ size⌋ entries, or by one more.
        seed: Below 2³¹.
        device: Of the result.

    Returns:
        Shape (rows · columns,), row by row: p where the entry is number p of the table, and size + p
        where it is the negative of that. Integers of 32 bits where these suffice.
    """
    dtype = torch.int32 if 2 * size <= 2**31 else torch.int64
    together = max(1, _CHUNK // columns)
    chunks = []
    for start in range(0, rows, together):
        some = torch.arange(start, min(rows, start + together), device=device)
        row, column = permuted(some[:, None], rows, columns, seed)
        negative = _hash(column ^ _hash(row, seed, 2 * _ROUNDS), seed, 2 * _ROUNDS + 1) & 1
        place = (row * columns + column) % size + size * negative
        chunks.append(place.to(dtype).flatten())
    return torch.cat(chunks)


def permuted(row: Tensor, rows: int, columns: int, seed: int) -> tuple[Tensor, Tensor]:
    """A permutation of the entries of a matrix, by a Feistel network.

    Each step moves an entry within its column by a hash of the column, or within its row by a hash of
    the row. That can be undone, whatever the hash, so no two entries come to the same place.

    Args:
        row: Rows as integers of 64 bits, shape (some, 1).
        rows: Rows of the matrix.
        columns: Columns of the matrix.
        seed: Below 2³¹.

    Returns:
        The new row and the new column of each entry, each of shape (some, columns).
    """
    column = torch.arange(columns, device=row.device)[None]
    for step in range(_ROUNDS):
        row = (row + _below(rows, _hash(column, seed, 2 * step))) % rows
        column = (column + _below(columns, _hash(row, seed, 2 * step + 1))) % columns
    return row, column


def _hash(x: Tensor, seed: int, step: int) -> Tensor:
    """Another number of 32 bits for each of up to 32 bits."""
    return _mixed(x ^ _mixed((seed + step * _GOLDEN) & _LOW))


def _below(limit: int, x: Tensor) -> Tensor:
    """A number below a limit of up to 2³¹, from one of 32 bits."""
    return (x * limit) >> 32


def _mixed(x: _Number) -> _Number:
    x = ((x ^ (x >> 16)) * _FIRST) & _LOW
    x = ((x ^ (x >> 15)) * _SECOND) & _LOW
    return x ^ (x >> 16)


def write_places(graph: GraphWriter, rows: int, columns: int, size: int, seed: int) -> Any:
    """Writes the places of `signed_places` into a graph, from nothing but these four numbers.

    All numbers are integers of 64 bits that are not negative, so a division by a power of two is a shift
    and a remainder by one keeps the low bits.

    Returns:
        The value, shape (rows · columns,). A file computes it once for all who ask for the same.
    """

    def body(inner: GraphWriter, _: Sequence[Any]) -> Sequence[Any]:
        return [_places_in(inner, rows, columns, size, seed)]

    return graph.call(f"places_{rows}_{columns}_{size}_{seed}", [], body)[0]


def _places_in(graph: GraphWriter, rows: int, columns: int, size: int, seed: int) -> Any:
    op = graph.op

    def mixed(x: Any) -> Any:
        for shift, multiplier in ((16, _FIRST), (15, _SECOND)):
            x = op("BitwiseXor", x, op("Div", x, 1 << shift))
            x = op("Mod", op("Mul", x, multiplier), 1 << 32)
        return op("BitwiseXor", x, op("Div", x, 1 << 16))

    def hashed(x: Any, step: int) -> Any:
        return mixed(op("BitwiseXor", x, _mixed((seed + step * _GOLDEN) & _LOW)))

    def moved(x: Any, limit: int, by: Any) -> Any:
        below = op("Div", op("Mul", by, limit), 1 << 32)
        return op("Mod", op("Add", x, below), limit)

    row = op("Reshape", op("Range", 0, rows, 1), [rows, 1])
    column = op("Reshape", op("Range", 0, columns, 1), [1, columns])
    for step in range(_ROUNDS):
        row = moved(row, rows, hashed(column, 2 * step))
        column = moved(column, columns, hashed(row, 2 * step + 1))
    sign = hashed(op("BitwiseXor", column, hashed(row, 2 * _ROUNDS)), 2 * _ROUNDS + 1)
    place = op("Mod", op("Add", op("Mul", row, columns), column), size)
    place = op("Add", place, op("Mul", op("Mod", sign, 2), size))
    return op("Reshape", place, [rows * columns])
