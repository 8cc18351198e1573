"""Plain depthwise-separable convolution: the baseline.

A saving that every separable network has must not be credited to the structured families.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seclcompress.cost import LayerCost
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.shapes import Pointwise, SplitConv, split_cost, white_gain
from seclcompress.substitutions.site import Site


class SeparableConfig(SubstitutionConfig):
    """A plain separable convolution has no options."""


class MatrixPointwise(Pointwise):
    """A map of the channels by an unstructured matrix.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        bias: The initial bias, or None.
        weight: The initial matrix, shape (out_channels, in_channels).
    """

    def __init__(
        self, in_channels: int, out_channels: int, bias: Tensor | None, weight: Tensor
    ) -> None:
        super().__init__(in_channels, out_channels, bias)
        self.matrix = nn.Parameter(weight)

    def make_weight(self) -> Tensor:
        """The matrix, shape (out_channels, in_channels)."""
        return self.matrix

    def fit_weight(self, target: Tensor) -> float:
        """Copies the target, so nothing is left."""
        with torch.no_grad():
            self.matrix.copy_(target)
        return 0.0


class SeparableSubstitution(Substitution):
    """Depthwise + unstructured pointwise convolution (Chollet, "Xception", 2016)."""

    name = "separable"
    summary = "depthwise + dense pointwise: the baseline that every other family must beat"
    Config = SeparableConfig

    def cost(self, site: Site, config: SeparableConfig) -> LayerCost:  # noqa: ARG002
        """`k·c_in + c_out·c_in` parameters."""
        conv = site.convolution
        weights = conv.in_channels * conv.out_channels
        return split_cost(site, weights, {"dense": weights})

    def _build(self, site: Site, config: SeparableConfig) -> SplitConv:  # noqa: ARG002
        conv = site.convolution
        matrix = conv.weight.new_empty(conv.out_channels, conv.in_channels)
        nn.init.normal_(matrix, std=white_gain(conv) / math.sqrt(conv.in_channels))
        return SplitConv(
            conv, MatrixPointwise(conv.in_channels, conv.out_channels, conv.bias, matrix)
        )


SUBSTITUTION = SeparableSubstitution()
