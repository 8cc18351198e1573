"""Plain depthwise-separable convolution: the honest baseline.

Whatever any separable network saves must not be claimed for the structured families.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.cost import LayerCost
from seclcompress.substitutions.contract import Convolution, Substitution, SubstitutionConfig
from seclcompress.substitutions.depthwise_pointwise import (
    DepthwisePointwise,
    split_cost,
    white_gain,
)
from seclcompress.substitutions.pointwise import Pointwise


class SeparableConfig(SubstitutionConfig):
    """A plain separable convolution has no options."""


class DensePointwise(Pointwise):
    """A 1×1 convolution's matrix as it is.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        bias: The bias to start from, or None.
        weight: The matrix to start from, shape (out_channels, in_channels).
    """

    def __init__(
        self, in_channels: int, out_channels: int, bias: Tensor | None, weight: Tensor
    ) -> None:
        super().__init__(in_channels, out_channels, bias)
        self.matrix = nn.Parameter(weight)

    def dense_weight(self) -> Tensor:
        """The matrix, shape (out_channels, in_channels)."""
        return self.matrix

    def fit(self, matrix: Tensor) -> float:
        """Takes the matrix as it is."""
        with torch.no_grad():
            self.matrix.copy_(matrix)
        return 0.0

    def transform(self, x: Tensor) -> Tensor:
        """The product with the matrix: this family has no other way."""
        return F.linear(x, self.matrix)


class SeparableSubstitution(Substitution):
    """Depthwise + dense pointwise (Chollet, "Xception", 2016)."""

    name = "separable"
    summary = "depthwise + dense pointwise: the baseline that every other family must beat"
    Config = SeparableConfig

    def cost(
        self,
        conv: Convolution,
        config: SeparableConfig,  # noqa: ARG002
        output_size: Sequence[int],
    ) -> LayerCost:
        """`k·c_in + c_out·c_in` parameters; dense and fast are the same."""
        weights = conv.in_channels * conv.out_channels
        return split_cost(conv, output_size, weights, weights, weights)

    def _build(self, conv: Convolution, config: SeparableConfig) -> DepthwisePointwise:  # noqa: ARG002
        matrix = conv.weight.new_empty(conv.out_channels, conv.in_channels)
        nn.init.normal_(matrix, std=white_gain(conv) / math.sqrt(conv.in_channels))
        pointwise = DensePointwise(conv.in_channels, conv.out_channels, conv.bias, matrix)
        return DepthwisePointwise(conv, pointwise)


SUBSTITUTION = SeparableSubstitution()
