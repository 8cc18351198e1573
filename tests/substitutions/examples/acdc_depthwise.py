"""Split: depthwise filters A C D C⁻¹, with six parameters for the nine weights of a 3×3 filter.

The SECL paper's SECL-LR has such filters, and ACDC on the channels: `acdc` with `depthwise=acdc`. Here
the channels have a plain matrix, so that only the part for space is new.
"""

from __future__ import annotations

import math

import torch

from seclcompress.cost import LayerCost
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.separable import MatrixPointwise
from seclcompress.substitutions.shapes import SplitConv, split_cost, white_gain
from seclcompress.substitutions.shapes.diagonal_filters import DiagonalFilters
from seclcompress.substitutions.site import Site


class AcdcDepthwiseConfig(SubstitutionConfig):
    """No options."""


class AcdcDepthwiseSubstitution(Substitution):
    name = "acdc_depthwise"
    summary = "depthwise filters from diagonals + dense pointwise"
    Config = AcdcDepthwiseConfig

    def _refuse(self, site: Site, config: AcdcDepthwiseConfig) -> str | None:
        kernel = site.convolution.kernel_size
        if site.kind == "linear":
            return "a Linear has no space"
        if len(kernel) != 2 or kernel[0] != kernel[1] or kernel[0] == 1:
            return f"a kernel of {'×'.join(map(str, kernel))} is no square of more than one"
        return None

    def cost(self, site: Site, config: AcdcDepthwiseConfig) -> LayerCost:
        conv = site.convolution
        weights = conv.in_channels * conv.out_channels
        return split_cost(
            site, weights, {"dense": weights}, filter_parameters=2 * conv.kernel_size[0]
        )

    def _build(self, site: Site, config: AcdcDepthwiseConfig) -> SplitConv:
        conv = site.convolution
        matrix = torch.randn(conv.out_channels, conv.in_channels).to(conv.weight)
        matrix *= white_gain(conv) / math.sqrt(conv.in_channels)
        channels = MatrixPointwise(conv.in_channels, conv.out_channels, conv.bias, matrix)
        return SplitConv(conv, channels, DiagonalFilters(conv))


SUBSTITUTION = AcdcDepthwiseSubstitution()
