"""Mult-Adds of operations for which torch's table of formulas has none.

A person's own operation is counted if it is in torch's table: `torch.utils.flop_counter.
register_flop_formula` puts it there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def _deform_conv2d(x: Tensor, weight: Tensor, *rest: Any, out: Tensor) -> int:
    """A convolution's; the offsets only move the places that are read (Dai et al., ICCV 2017)."""
    del x, rest
    return out.numel() * math.prod(weight.shape[1:])


def _trilinear(
    one: Tensor,
    two: Tensor,
    three: Tensor,
    expand1: list[int],
    expand2: list[int],
    expand3: list[int],
    *rest: Any,
    out: Tensor,
) -> int:
    """`Σ x · W · y`, as of `nn.Bilinear`: one Mult-Add for each combination of indices."""
    del rest, out
    shapes = []
    for tensor, places in ((one, expand1), (two, expand2), (three, expand3)):
        shape = list(tensor.shape)
        for place in sorted(places):
            shape.insert(place, 1)
        shapes.append(shape)
    return math.prod(torch.broadcast_shapes(*shapes))


def _matrix_vector(matrix: Tensor, *rest: Any, out: Tensor) -> int:
    del rest, out
    return matrix.numel()


def _added_matrix_vector(bias: Tensor, matrix: Tensor, *rest: Any, out: Tensor) -> int:
    del bias, rest, out
    return matrix.numel()


def _dot(one: Tensor, *rest: Any, out: Tensor) -> int:
    del rest, out
    return one.numel()


def _distances(one: Tensor, two: Tensor, *rest: Any, out: Tensor) -> int:
    """Distances of all pairs of vectors: one Mult-Add for each pair and coordinate."""
    del two, rest
    return out.numel() * one.shape[-1]


FORMULAS: Mapping[str, Callable[..., int]] = {
    "torchvision::deform_conv2d": _deform_conv2d,
    "aten::_trilinear": _trilinear,
    "aten::mv": _matrix_vector,
    "aten::addmv": _added_matrix_vector,
    "aten::addmv_": _added_matrix_vector,
    "aten::dot": _dot,
    "aten::vdot": _dot,
    "aten::_cdist_forward": _distances,
    "aten::_euclidean_dist": _distances,
}
