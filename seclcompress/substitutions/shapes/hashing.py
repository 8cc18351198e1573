"""A balanced hash of a matrix' entries, by a seed, in integers alone.

It is the same on every device and in every version of torch. Only operations are used of which the
results are integers below 2⁶³.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
#: Integers of 64 bits: in torch, or in a graph.
_Many = TypeVar("_Many", Tensor, "_InGraph")
_Number = TypeVar("_Number", Tensor, "_InGraph", int)
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
        chunks.append(_place(row, column, columns, size, seed).to(dtype).flatten())
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
    return _moved(row, column, rows, columns, seed)


def _moved(row: _Many, column: _Many, rows: int, columns: int, seed: int) -> tuple[_Many, _Many]:
    """See `permuted`; columns as integers of 64 bits, shape (1, columns)."""
    for step in range(_ROUNDS):
        row = (row + _below(rows, _hash(column, seed, 2 * step))) % rows
        column = (column + _below(columns, _hash(row, seed, 2 * step + 1))) % columns
    return row, column


def _place(row: _Many, column: _Many, columns: int, size: int, seed: int) -> _Many:
    """The signed place of entries that were permuted."""
    negative = _hash(column ^ _hash(row, seed, 2 * _ROUNDS), seed, 2 * _ROUNDS + 1) & 1
    return (row * columns + column) % size + negative * size


def _hash(x: _Many, seed: int, step: int) -> _Many:
    """Another number of 32 bits for each of up to 32 bits."""
    return _mixed(x ^ _mixed((seed + step * _GOLDEN) & _LOW))


def _below(limit: int, x: _Many) -> _Many:
    """A number below a limit of up to 2³¹, from one of 32 bits."""
    return (x * limit) >> 32


def _mixed(x: _Number) -> _Number:
    x = ((x ^ (x >> 16)) * _FIRST) & _LOW
    x = ((x ^ (x >> 15)) * _SECOND) & _LOW
    return x ^ (x >> 16)


def write_places(graph: GraphWriter, rows: int, columns: int, size: int, seed: int) -> Any:
    """Writes the places of `signed_places` into a graph, from nothing but these four numbers.

    Returns:
        The value, shape (rows · columns,). A file computes it once for all who ask for the same.
    """

    def body(inner: GraphWriter, _: Sequence[Any]) -> Sequence[Any]:
        row = _InGraph(inner, inner.op("Reshape", inner.op("Range", 0, rows, 1), [rows, 1]))
        column = _InGraph(
            inner, inner.op("Reshape", inner.op("Range", 0, columns, 1), [1, columns])
        )
        place = _place(*_moved(row, column, rows, columns, seed), columns, size, seed)
        return [inner.op("Reshape", place.value, [rows * columns])]

    return graph.call(f"places_{rows}_{columns}_{size}_{seed}", [], body)[0]


@dataclass(frozen=True)
class _InGraph:
    """Integers of 64 bits in a graph, with the operations that the hash needs.

    None is negative, so a division by a power of two is a shift, and a remainder by one keeps low bits.
    """

    graph: GraphWriter
    value: Any

    def __xor__(self, other: _InGraph | int) -> _InGraph:
        return self._with("BitwiseXor", other)

    def __add__(self, other: _InGraph | int) -> _InGraph:
        return self._with("Add", other)

    def __mul__(self, other: _InGraph | int) -> _InGraph:
        return self._with("Mul", other)

    def __mod__(self, other: int) -> _InGraph:
        return self._with("Mod", other)

    def __rshift__(self, bits: int) -> _InGraph:
        return self._with("Div", 1 << bits)

    def __and__(self, low: int) -> _InGraph:
        return self._with("Mod", low + 1)

    def _with(self, kind: str, other: _InGraph | int) -> _InGraph:
        right = other.value if isinstance(other, _InGraph) else other
        return _InGraph(self.graph, self.graph.op(kind, self.value, right))
