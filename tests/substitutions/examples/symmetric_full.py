"""Full: a convolution whose weight is symmetric in its channels; only the triangle is a parameter."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seclcompress.cost import LayerCost
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.shapes import FullConv, full_cost, white_gain
from seclcompress.substitutions.site import Convolution, Site


class SymmetricConfig(SubstitutionConfig):
    """No options."""


class SymmetricConv(FullConv):
    def __init__(self, conv: Convolution, triangle: Tensor) -> None:
        super().__init__(conv)
        self.triangle = nn.Parameter(triangle)

    def factors(self) -> list[nn.Parameter]:
        return [self.triangle]

    def make_weight(self) -> Tensor:
        n = self.in_channels
        rows, columns = torch.tril_indices(n, n, device=self.triangle.device)
        lower = self.triangle.new_zeros(n, n, *self.kernel_size)
        lower = lower.index_put((rows, columns), self.triangle)
        strict = (rows > columns).reshape(-1, *[1] * len(self.kernel_size))
        upper = torch.zeros_like(lower).index_put((columns, rows), self.triangle * strict)
        return lower + upper


class SymmetricSubstitution(Substitution):
    name = "symmetric_full"
    summary = "the convolution with a symmetric weight"
    Config = SymmetricConfig

    def _refuse(self, site: Site, config: SymmetricConfig) -> str | None:
        conv = site.convolution
        if conv.in_channels != conv.out_channels:
            return f"{conv.in_channels} × {conv.out_channels} is not square"
        return "its groups have no symmetry between them" if conv.groups > 1 else None

    def cost(self, site: Site, config: SymmetricConfig) -> LayerCost:
        n = site.convolution.in_channels
        return full_cost(site, n * (n + 1) // 2 * math.prod(site.convolution.kernel_size))

    def _build(self, site: Site, config: SymmetricConfig) -> SymmetricConv:
        conv = site.convolution
        n = conv.in_channels
        triangle = torch.randn(n * (n + 1) // 2, *conv.kernel_size).to(conv.weight)
        return SymmetricConv(conv, triangle * white_gain(conv) / conv.weight[0].numel() ** 0.5)


SUBSTITUTION = SymmetricSubstitution()
