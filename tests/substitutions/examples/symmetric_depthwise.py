"""Full, on depthwise convolutions: each channel's square filter is symmetric, six numbers for nine."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seclcompress.cost import LayerCost
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.shapes import FullConv, full_cost, white_gain
from seclcompress.substitutions.site import Convolution, Site


class SymmetricConfig(SubstitutionConfig):
    """No options."""


class SymmetricFilters(FullConv):
    def __init__(self, conv: Convolution, triangles: Tensor) -> None:
        super().__init__(conv)
        self.triangles = nn.Parameter(triangles)

    def factors(self) -> list[nn.Parameter]:
        return [self.triangles]

    def make_weight(self) -> Tensor:
        k = self.kernel_size[0]
        rows, columns = torch.tril_indices(k, k, device=self.triangles.device)
        place = torch.zeros(k, k, dtype=torch.long, device=rows.device)
        place[rows, columns] = place[columns, rows] = torch.arange(len(rows), device=rows.device)
        return self.triangles[:, place].unsqueeze(1)


class SymmetricDepthwiseSubstitution(Substitution):
    name = "symmetric_depthwise"
    summary = "depthwise filters that are symmetric"
    Config = SymmetricConfig
    kinds = frozenset({"depthwise"})

    def _refuse(self, site: Site, config: SymmetricConfig) -> str | None:
        kernel = site.convolution.kernel_size
        if len(kernel) != 2 or kernel[0] != kernel[1]:
            return f"a kernel of {'×'.join(map(str, kernel))} is not square"
        return None

    def cost(self, site: Site, config: SymmetricConfig) -> LayerCost:
        k = site.convolution.kernel_size[0]
        return full_cost(site, site.convolution.out_channels * k * (k + 1) // 2)

    def _build(self, site: Site, config: SymmetricConfig) -> SymmetricFilters:
        conv = site.convolution
        k = conv.kernel_size[0]
        triangles = torch.randn(conv.out_channels, k * (k + 1) // 2).to(conv.weight)
        return SymmetricFilters(conv, triangles * white_gain(conv) / k)


SUBSTITUTION = SymmetricDepthwiseSubstitution()
