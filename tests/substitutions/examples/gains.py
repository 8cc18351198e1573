"""Full: W = diag(a) I + diag(b) Ŵ, as in DiracNets. It hardly changes the number of parameters.

Its gains a and b are a parameter group of their own.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from seclcompress.cost import LayerCost
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.fitting import Fit
from seclcompress.substitutions.shapes import FullConv, full_cost, white_gain
from seclcompress.substitutions.site import Convolution, Site


class GainsConfig(SubstitutionConfig):
    """Options: the initial gain of the identity."""

    identity: float = Field(default=1.0, ge=0, le=1.6)


class GainsConv(FullConv):
    def __init__(self, conv: Convolution, a: Tensor, b: Tensor, direction: Tensor) -> None:
        super().__init__(conv)
        self.a, self.b, self.direction = nn.Parameter(a), nn.Parameter(b), nn.Parameter(direction)

    def factors(self) -> list[nn.Parameter]:
        return [self.a, self.b, self.direction]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"gains": [self.a, self.b]}

    def make_weight(self) -> Tensor:
        ones = [1] * (self.direction.dim() - 1)
        norms = self.direction.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, *ones)
        identity = torch.zeros_like(self.direction)
        middle = tuple(size // 2 for size in self.kernel_size)
        inside = self.direction.shape[1]
        for channel in range(self.out_channels):
            identity[(channel, channel % inside, *middle)] = 1
        scaled = self.b.reshape(-1, *ones) * self.direction / norms
        return self.a.reshape(-1, *ones) * identity + scaled

    def fit(self, layer: nn.Module) -> Fit | None:
        return None


class GainsSubstitution(Substitution):
    name = "gains"
    title = "Dirac"
    summary = "the convolution around an identity, with gains"
    Config = GainsConfig
    kinds = frozenset({"convolution"})
    must_shrink = False

    def _refuse(self, site: Site, config: GainsConfig) -> str | None:
        return "its groups have no identity" if site.convolution.groups > 1 else None

    def cost(self, site: Site, config: GainsConfig) -> LayerCost:
        conv = site.convolution
        return full_cost(site, conv.weight.numel() + 2 * conv.out_channels, note="with an identity")

    def _build(self, site: Site, config: GainsConfig) -> GainsConv:
        conv = site.convolution
        gain = white_gain(conv)  # a and b share it such that a² + b² = gain²
        a = conv.weight.new_full((conv.out_channels,), 0.6 * gain * config.identity)
        b = conv.weight.new_full(
            (conv.out_channels,), gain * (1 - 0.36 * config.identity**2) ** 0.5
        )
        return GainsConv(conv, a, b, torch.randn_like(conv.weight))


SUBSTITUTION = GainsSubstitution()
