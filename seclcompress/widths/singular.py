"""Singular values of a layer's weights as the matrix that multiplies its patches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seclcompress.substitutions import StructuredLayer
from seclcompress.torch_private import ConvNd
from seclcompress.widths.components import fewest


@dataclass(frozen=True)
class SingularValues:
    """Singular values of a layer's matrix.

    Attributes:
        values: Largest first.
        for_90: The fewest that have 90 % of the energy, which is the sum of their squares.
        for_99: The fewest that have 99 %.
    """

    values: tuple[float, ...]
    for_90: int
    for_99: int


def singular_values(layer: nn.Module) -> SingularValues | None:
    """Finds the singular values of a layer's matrix, in float64.

    The matrix has a row for each output channel and a column for each number of a patch: input channels
    × kernel positions. With groups it is block diagonal, so its values are those of all blocks: a
    depthwise filter's is its norm. A replacement's matrix is that which it multiplies out to.

    Args:
        layer: A convolution, a Linear, or a replacement of one.

    Returns:
        The values; None if the layer is no single matrix, or its weights are zero or not finite.
    """
    blocks = _blocks(layer)
    if blocks is None or not blocks.isfinite().all() or not blocks.any():
        return None
    values = torch.linalg.svdvals(blocks).flatten().sort(descending=True).values
    energies = values.square().numpy()
    return SingularValues(tuple(values.tolist()), fewest(energies, 0.9), fewest(energies, 0.99))


def _blocks(layer: nn.Module) -> Tensor | None:
    """The blocks of a layer's matrix, (groups, rows, columns), on the CPU; None if it has none."""
    if isinstance(layer, StructuredLayer):
        whole = layer.whole_weight()
        if whole is None:
            dense = layer.to_dense()
            return None if dense is None or isinstance(dense, StructuredLayer) else _blocks(dense)
        weight, _, groups = whole
        return weight.detach().cpu().double().reshape(groups, len(weight) // groups, -1)
    if not isinstance(layer, ConvNd | nn.Linear):
        return None
    weight = layer.weight.detach().cpu().double()
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    # A transposed convolution's weight has its inputs first, and the outputs of a group.
    return weight.reshape(groups, len(weight) // groups, -1)
