"""Split: depthwise, and a pointwise matrix that is a product of two thin ones, two layers in torch."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.shapes import FactoredPointwise, SplitConv, split_cost, white_gain
from seclcompress.substitutions.site import Site


class LowRankConfig(SubstitutionConfig):
    """Options: the rank."""

    rank: int = Field(default=2, ge=1)


class LowRankPointwise(FactoredPointwise):
    executions = EXECUTIONS

    def __init__(self, bias: Tensor | None, first: Tensor, second: Tensor) -> None:
        super().__init__(first.shape[1], second.shape[0], bias)
        self.first, self.second = nn.Parameter(first), nn.Parameter(second)

    def factors(self) -> list[nn.Parameter]:
        return [self.first, self.second]

    def make_weight(self) -> Tensor:
        return self.second @ self.first

    def plain_matrices(self) -> list[Tensor]:
        return [self.first, self.second]

    def transform(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.first.to(x.dtype)), self.second.to(x.dtype))


class LowRankSubstitution(Substitution):
    name = "low_rank_split"
    summary = "depthwise + a matrix of low rank"
    Config = LowRankConfig
    executions = EXECUTIONS

    def cost(self, site: Site, config: LowRankConfig) -> LayerCost:
        conv = site.convolution
        thin = config.rank * (conv.in_channels + conv.out_channels)
        return split_cost(site, thin, {"dense": conv.in_channels * conv.out_channels, "fast": thin})

    def _build(self, site: Site, config: LowRankConfig) -> SplitConv:
        conv = site.convolution
        first = torch.randn(config.rank, conv.in_channels).to(conv.weight)
        second = torch.randn(conv.out_channels, config.rank).to(conv.weight)
        if not conv.weight.is_meta:  # with few random vectors the norm varies, so it is set exactly
            second *= white_gain(conv) * conv.out_channels**0.5 / (second @ first).norm()
        return SplitConv(conv, LowRankPointwise(conv.bias, first, second))


SUBSTITUTION = LowRankSubstitution()
