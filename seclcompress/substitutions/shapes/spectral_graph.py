"""A stack's matrix by products of matrices alone, for graphs that other runtimes multiply out.

A graph that holds the diagonals has to make the DCT from ordinary operations: the DCT's matrix is larger
than what it replaces, and not every runtime has a fast transform. So the matrix is written as two steps,
as an FFT of two radices is: with N = n₁ n₂ and the entries in Makhoul's order (`transforms`), index
`j = j₁ n₂ + j₂`,

    C = (F ⊗ I) · diag(B_1, …)

`F` is the orthonormal real Fourier transform of length n₁ over j₁; its n₁ outputs are n₁ / 2 pairs.
`B_g` is an orthogonal matrix of 2 n₂ numbers for pair g, which leads to the coefficients k with
`k mod n₁ = ±g`. So a layer's `C D C⁻¹ = (F ⊗ I) · diag(B_g D_g B_gᵀ) · (F ⊗ I)ᵀ` takes `2 (n₁ + n₂)`
Mult-Adds for an entry instead of `2 N`. Vectors are the columns, so no step has to transpose anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seclcompress.substitutions.graph import GraphWriter
from seclcompress.substitutions.shapes.permutation import Permutation

#: ONNX's number for float32.
_FLOAT = 1
#: Shorter stacks are multiplied by the DCT's whole matrix.
_SHORTEST = 32


def two_radices(length: int) -> tuple[int, int] | None:
    """The factors (n₁, n₂) of a length with the least `n₁ + n₂`, n₁ even; None if there are none.

    Args:
        length: The length N.
    """
    if length < _SHORTEST:
        return None
    even = [n for n in range(2, length // 2 + 1, 2) if length % n == 0]
    best = min(even, key=lambda n: n + length // n, default=None)
    return None if best is None else (best, length // best)


def write_stack(
    graph: GraphWriter,
    a: Tensor,
    d: Tensor,
    permutation: Permutation,
    in_channels: int,
    out_channels: int,
    *,
    inverse: bool,
    last: bool,
) -> Any:
    """Writes the matrix of a stack of layers `A C D C⁻¹ P`, or `P C D C⁻¹ A`.

    Args:
        graph: The graph.
        a: The diagonals A, shape (L, N).
        d: The diagonals D, shape (L, N).
        permutation: P.
        in_channels: At most N.
        out_channels: At most N. The stack runs on the narrower side's unit vectors.
        inverse: Whether P is inverted.
        last: Whether A comes last in a layer, and P first.

    Returns:
        A value of shape (out_channels, in_channels); None where N has no `two_radices`.
    """
    depth, length = a.shape
    radices = two_radices(length)
    if radices is None:
        return None
    by_rows = out_channels < in_channels
    start, end = sorted((in_channels, out_channels))
    all_a, all_d = graph.given(a), graph.given(d)
    if by_rows:  # the layers of the transposed stack run from the last to the first, turned round
        backwards = graph.op("Range", depth - 1, -1, -1)
        all_a, all_d = (graph.op("Gather", x, backwards, axis=0) for x in (all_a, all_d))
        inverse, last = not inverse, not last
    stack, places = StackGraph(graph, length, radices), None
    if permutation.kind == "riffle":
        places = stack.riffle(inverse=inverse)
    elif permutation.kind == "random":
        moved = permutation(torch.arange(length, device=a.device), inverse=inverse)
        places = graph.given(moved.to(torch.int32))
    y = stack.run(stack.unit_vectors(start), start, all_a, all_d, depth, places, not last)
    y = stack.folded(y, start, end)
    return graph.op("Transpose", y, perm=[1, 0]) if by_rows else y


class StackGraph:
    """Writes the layers of a stack into a graph.

    Args:
        graph: The graph.
        length: The length N.
        radices: What `two_radices` says of it.
    """

    def __init__(self, graph: GraphWriter, length: int, radices: tuple[int, int]) -> None:
        self._graph, self._length, self._radices = graph, length, radices
        name, tables = f"dct_{length}", _Tables(length, radices)
        self._enter, self._leave, self._first, self._second, self._k = graph.call(
            name, [], lambda graph, _: tables.write(graph)
        )

    def riffle(self, *, inverse: bool) -> Any:
        """The places that `transforms.riffle`, or its inverse, takes its entries from."""
        op, half = self._graph.op, (self._length + 1) // 2
        i = op("Range", 0, self._length, 1)
        if inverse:
            twice = op("Mul", i, 2)
            return op("Where", op("Less", i, half), twice, op("Sub", twice, 2 * half - 1))
        first = op("Div", i, 2)
        return op("Add", first, op("Mul", op("Mod", i, 2), half))

    def unit_vectors(self, count: int) -> Any:
        """`expand` of the unit vectors, as columns in Makhoul's order, shape (N, count)."""
        op = self._graph.op
        ends = op("Reshape", op("Mod", self._enter, count), [-1, 1])
        return op("Cast", op("Equal", ends, op("Range", 0, count, 1)), to=_FLOAT)

    def folded(self, y: Any, count: int, end: int) -> Any:
        """`fold` of columns in Makhoul's order, shape (N, count) to (end, count)."""
        op, length = self._graph.op, self._length
        y = op("Gather", y, self._leave, axis=0)
        if end == length:
            return y
        missing = -length % end
        y = op("Pad", y, [0, 0, missing, 0]) if missing else y
        return op("ReduceSum", op("Reshape", y, [-1, end, count]), [0], keepdims=0)

    def run(self, y: Any, count: int, a: Any, d: Any, depth: int, places: Any, last: bool) -> Any:
        """Runs the layers `A C D C⁻¹ P`, or `P C D C⁻¹ A`.

        Args:
            y: Columns in Makhoul's order, shape (N, count).
            count: The number of columns.
            a: The diagonals A in running order, shape (L, N).
            d: The diagonals D, shape (L, N).
            depth: The number L of layers.
            places: The places that P takes its entries from; None where nothing is permuted.
            last: Whether A comes first in a layer, and P last.

        Returns:
            Columns in Makhoul's order, shape (N, count).
        """
        op, length = self._graph.op, self._length
        moved = []
        if places is not None:
            entered = op("Gather", places, self._enter, axis=0)
            moved = [op("Gather", self._leave, entered, axis=0)]
        # D B_gᵀ for all layers at once, shape (L, pairs, 2 n₂, 2 n₂), and B_g D B_gᵀ
        d = op("Unsqueeze", op("Gather", d, self._k, axis=1), [2])
        across = op("Transpose", self._second, perm=[0, 2, 1])
        filters = op("MatMul", op("Mul", d, self._second), across)
        a = op("Reshape", op("Gather", a, self._enter, axis=1), [depth, length, 1])
        all_a, all_filters = self._graph.split(a, depth), self._graph.split(filters, depth)
        turned = op("Transpose", self._first, perm=[1, 0])
        name = f"acdc_{length}x{count}{'_last' if last else ''}{'_moved' if moved else ''}"
        for a_l, filter_l in zip(all_a, all_filters, strict=True):
            inputs = [y, a_l, filter_l, self._first, turned, *moved]
            (y,) = self._graph.call(name, inputs, partial(self._layer, count=count, last=last))
        return y

    def _layer(
        self, graph: GraphWriter, inputs: Sequence[Any], *, count: int, last: bool
    ) -> Sequence[Any]:
        """One layer on columns, shape (N, count)."""
        op, length, (n1, n2) = graph.op, self._length, self._radices
        y, a, filters, first, turned, *moved = inputs
        if last:
            y = op("Mul", y, a)
        elif moved:
            y = op("Gather", y, *moved, axis=0)
        pairs = op("MatMul", turned, op("Reshape", y, [n1, n2 * count]))
        pairs = op("MatMul", filters, op("Reshape", pairs, [n1 // 2, 2 * n2, count]))
        y = op("MatMul", first, op("Reshape", pairs, [n1, n2 * count]))
        y = op("Reshape", y, [length, count])
        if not last:
            return [op("Reshape", op("Mul", y, a), [length, count])]
        return [op("Gather", y, *moved, axis=0) if moved else y]


class _Tables:
    """Writes what all stacks of a length share.

    Args:
        length: The length N.
        radices: What `two_radices` says of it.
    """

    _graph: GraphWriter

    def __init__(self, length: int, radices: tuple[int, int]) -> None:
        self._length, self._radices = length, radices

    def write(self, graph: GraphWriter) -> Sequence[Any]:
        """Makhoul's order, the way back, F, the matrices B_g, and the coefficients of every pair.

        Their shapes are (N,), (N,), (n₁, n₁), (n₁ / 2, 2 n₂, 2 n₂), (n₁ / 2, 2 n₂).
        """
        self._graph, op, (n1, n2) = graph, graph.op, self._radices
        i = self._range(self._length)
        twice = op("Mul", i, 2)
        enter = op("Min", twice, op("Sub", 2 * self._length - 1, twice))
        half, odd = op("Div", op("Add", i, 1), 2), op("Equal", op("Mod", i, 2), 1)
        leave = op("Where", odd, op("Sub", self._length, half), half)
        k = self._coefficients()
        flat = op("Reshape", k, [n1 // 2, 2 * n2])
        return [enter, leave, self._first_step(), self._second_step(k), flat]

    def _range(self, count: int, *shape: int) -> Any:
        """0, 1, …, of a shape (with one -1)."""
        values = self._graph.op("Range", 0, count, 1)
        return self._graph.op("Reshape", values, list(shape)) if shape else values

    def _coefficients(self) -> Any:
        """The coefficients k that each pair leads to, shape (n₁ / 2, 2, n₂)."""
        op, (n1, n2) = self._graph.op, self._radices
        pair, mirrored = self._range(n1 // 2, -1, 1, 1), self._range(2, -1, 1)
        # 0 and n₁ / 2 have no mirror: they are a pair.
        mirror = op("Where", op("Equal", pair, 0), n1 // 2, op("Sub", n1, pair))
        start = op("Where", op("Equal", mirrored, 0), pair, mirror)
        return op("Add", start, op("Mul", self._range(n2), n1))

    def _first_step(self) -> Any:
        """F, shape (n₁, n₁): cosine and sine of pair 1, 2, …; before them 1 and ±1."""
        op, (n1, _) = self._graph.op, self._radices
        i = self._range(n1)
        pair, second = op("Div", i, 2), op("Equal", i, 1)
        frequency = op("Where", second, n1 // 2, pair)
        turn = op("Where", second, 0, op("Mul", op("Mod", i, 2), n1))
        angle = op("Mul", op("Mul", self._range(n1, -1, 1), frequency), 4)
        first = op("Equal", pair, 0)
        scale = op("Where", first, math.sqrt(1 / n1), math.sqrt(2 / n1))
        return op("Mul", self._cosine(op("Sub", angle, turn), n1), scale)

    def _second_step(self, k: Any) -> Any:
        """The matrices B_g, shape (n₁ / 2, 2 n₂, 2 n₂), by (cosine or sine, j₂) and coefficient."""
        op, (n1, n2) = self._graph.op, self._radices
        k = op("Reshape", k, [n1 // 2, 1, 1, 2, n2])
        pair, part = self._range(n1 // 2, -1, 1, 1, 1, 1), self._range(2, -1, 1, 1, 1)
        mirrored = self._range(2, -1, 1)
        # c cos φ − s sin φ for k mod n₁ = g, c cos φ + s sin φ for its mirror: a quarter turn.
        first = op("Equal", pair, 0)
        sign = op("Sub", self._length, op("Mul", mirrored, 2 * self._length))
        turn = op("Where", first, 0, op("Mul", part, sign))
        j2 = op("Add", op("Mul", self._range(n2, -1, 1, 1), 4), 1)
        scale = op("Where", first, math.sqrt(2 / n2), math.sqrt(1 / n2))
        scale = op("Where", op("Equal", k, 0), math.sqrt(1 / n2), scale)
        apart = op("Not", op("Equal", part, mirrored))
        scale = op("Where", op("And", first, apart), 0.0, scale)
        matrix = op("Mul", self._cosine(op("Add", op("Mul", k, j2), turn), self._length), scale)
        return op("Reshape", matrix, [n1 // 2, 2 * n2, 2 * n2])

    def _cosine(self, steps: Any, period: int) -> Any:
        """The cosine of `steps · π / 2 period`, reduced as integers so that it is accurate."""
        op = self._graph.op
        angle = op("Cast", op("Mod", steps, 4 * period), to=_FLOAT)
        return op("Cos", op("Mul", angle, math.pi / (2 * period)))
