"""Dirac: one convolution around an identity, `W = diag(a)·I + diag(b)·W_norm`.

Zagoruyko & Komodakis, "DiracNets: Training Very Deep Neural Networks Without Skip-Connections", 2017,
arXiv:1706.00388. `I` is the identity of convolutions (Kronecker's delta at the kernel's middle), and
every filter of `W_norm` has norm 1. The gains `a` and `b` start at 1 and 0.1 and are not decayed.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from seclcompress.cost import LayerCost
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.fitting import Fit
from seclcompress.substitutions.shapes import FullConv, full_cost, white_gain
from seclcompress.substitutions.site import Convolution, Site

#: The paper's first gains.
_IDENTITY, _FILTERS = 1.0, 0.1
#: A filter of zeros has no direction; it is divided by this instead of its norm.
_SMALLEST_NORM = 1e-12


class DiracConfig(SubstitutionConfig):
    """Options of the Dirac parameterisation.

    Attributes:
        init: First gains. `white`: the paper's a : b = 10 : 1, both scaled so that the outputs start
            with the variance of the original's. `paper`: a = 1 and b = 0.1, whatever the original's
            outputs are like.
    """

    init: Literal["white", "paper"] = Field(
        default="white",
        description="white: a : b = 10 : 1 with the original's variance; paper: a = 1, b = 0.1",
    )


class DiracConv(FullConv):
    """A convolution with `W = diag(a)·I + diag(b)·W_norm`.

    In group g, output channel i of the group is joined by `I` to input channel `i mod c` of the group,
    c being the group's input channels. So `I ⊛ x = x` where there are as many outputs as inputs, more
    outputs repeat the inputs (as in the authors' code), and fewer take the first ones.

    Args:
        conv: The convolution to replace.
        a: The first gains of the identity, shape (out_channels,).
        b: The first gains of the filters, shape (out_channels,).
        direction: The first filters, of any norm, with the shape of `conv`'s weight.
    """

    def __init__(self, conv: Convolution, a: Tensor, b: Tensor, direction: Tensor) -> None:
        super().__init__(conv)
        self.a, self.b, self.direction = nn.Parameter(a), nn.Parameter(b), nn.Parameter(direction)

    def factors(self) -> list[nn.Parameter]:
        """The gains and the filters."""
        return [self.a, self.b, self.direction]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The gains, as the group `gains`; the filters are ordinary weights."""
        return {"gains": [self.a, self.b]}

    def make_weight(self) -> Tensor:
        """`diag(a)·I + diag(b)·W_norm`, shape (out_channels, in_channels ÷ groups, *kernel_size)."""
        ones = [1] * (self.direction.dim() - 1)
        norms = self.direction.flatten(1).norm(dim=1).clamp_min(_SMALLEST_NORM)
        filters = (self.b / norms).reshape(-1, *ones) * self.direction
        return self.a.reshape(-1, *ones) * self._identity() + filters

    def fit(self, layer: nn.Module) -> Fit:
        """Takes the original's weight over exactly.

        The gains `a` become what lies on the identity, `b` the norms of the rest.
        """
        assert isinstance(layer.weight, Tensor)
        target = layer.weight.detach()
        identity = self._identity()
        ones = [1] * (target.dim() - 1)
        with torch.no_grad():
            a = (target * identity).flatten(1).sum(1)
            rest = target - a.reshape(-1, *ones) * identity
            norms = rest.flatten(1).double().norm(dim=1).to(a.dtype)
            self.a.copy_(a)
            self.b.copy_(norms)
            # A filter of zeros keeps its first direction: b = 0 switches it off, and can be trained.
            self.direction.copy_(torch.where(norms.reshape(-1, *ones) > 0, rest, self.direction))
        return self.measure_fit(target)

    def _identity(self) -> Tensor:
        """The Kronecker delta `I`, with the shape of the weight."""
        rows = torch.arange(self.out_channels, device=self.direction.device)
        columns = rows % (self.out_channels // self.groups) % self.direction.shape[1]
        middle = [torch.full_like(rows, size // 2) for size in self.kernel_size]
        one = self.direction.new_ones(())
        return torch.zeros_like(self.direction).index_put((rows, columns, *middle), one)


def dirac_convolution(conv: Convolution, gain: float | None = None) -> DiracConv:
    """Makes an untrained Dirac convolution with filters from N(0, 1).

    Args:
        conv: The convolution whose geometry and bias it has.
        gain: The standard deviation of its outputs for white input; None for the paper's gains, with
            which it is √1.01.
    """
    scale = 1.0 if gain is None else gain / math.hypot(_IDENTITY, _FILTERS)
    a, b = (
        conv.weight.new_full((conv.out_channels,), scale * first) for first in (_IDENTITY, _FILTERS)
    )
    return DiracConv(conv, a, b, torch.randn_like(conv.weight))


class DiracSubstitution(Substitution):
    """The convolution around an identity; it has two numbers a channel more than the original."""

    name = "dirac"
    summary = (
        "the convolution around an identity, diag(a)·I + diag(b)·W_norm; trains deep plain nets"
    )
    Config = DiracConfig
    must_shrink = False

    def cost(self, site: Site, config: DiracConfig) -> LayerCost:  # noqa: ARG002
        """The original's parameters and `2·c_out` gains; the original's Mult-Adds."""
        conv = site.convolution
        return full_cost(
            site,
            conv.weight.numel() + 2 * conv.out_channels,
            note="its gains fold away when it runs",
        )

    def _build(self, site: Site, config: DiracConfig) -> DiracConv:
        conv = site.convolution
        return dirac_convolution(conv, white_gain(conv) if config.init == "white" else None)


SUBSTITUTION = DiracSubstitution()
