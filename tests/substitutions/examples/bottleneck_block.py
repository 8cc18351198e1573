"""Block: 1×1, BN, ReLU, grouped k×k, BN, ReLU, 1×1, like the blocks of Moonshine."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from seclcompress.cost import LayerCost, convolution_mult_adds, convolution_parameters
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.shapes import BlockConv
from seclcompress.substitutions.site import CONVOLUTIONS, Site

NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class BlockConfig(SubstitutionConfig):
    """Options: the factor by which the middle is narrower, and its groups."""

    reduction: int = Field(default=2, ge=1)
    groups: int = Field(default=1, ge=1)


class BlockSubstitution(Substitution):
    name = "bottleneck_block"
    summary = "a bottleneck with nonlinearities"
    Config = BlockConfig
    affine = False

    def _middle(self, site: Site, config: BlockConfig) -> int:
        return max(1, site.convolution.out_channels // config.reduction)

    def _refuse(self, site: Site, config: BlockConfig) -> str | None:
        middle = self._middle(site, config)
        return f"{middle} channels in the middle" if middle % config.groups else None

    def cost(self, site: Site, config: BlockConfig) -> LayerCost:
        conv, b = site.convolution, self._middle(site, config)
        ones = (1,) * len(conv.kernel_size)
        layers = [  # the first 1×1 runs at the input's size, even with a stride
            (conv.in_channels, b, ones, 1, site.input_positions),
            (b, b, conv.kernel_size, config.groups, site.output_positions),
            (b, conv.out_channels, ones, 1, site.output_positions),
        ]
        bias = 0 if conv.bias is None else conv.out_channels
        parameters = sum(convolution_parameters(*each[:4], bias=False) for each in layers)
        mult_adds = sum(convolution_mult_adds(*each) for each in layers)
        return LayerCost(parameters + 4 * b + bias, {"dense": mult_adds})

    def _build(self, site: Site, config: BlockConfig) -> BlockConv:
        conv, b = site.convolution, self._middle(site, config)
        dimensions = len(conv.kernel_size)
        kind, norm = CONVOLUTIONS[dimensions], NORMS[dimensions]
        where = {"device": conv.weight.device, "dtype": conv.weight.dtype}
        last = kind(b, conv.out_channels, 1, bias=conv.bias is not None, **where)
        if conv.bias is not None and not conv.weight.is_meta:
            last.bias.copy_(conv.bias)
        middle = kind(
            b, b, conv.kernel_size, stride=conv.stride, padding=conv.padding,
            dilation=conv.dilation, groups=config.groups, bias=False,
            padding_mode=conv.padding_mode, **where,
        )  # fmt: skip
        body = nn.Sequential(
            kind(conv.in_channels, b, 1, bias=False, **where), norm(b, **where), nn.ReLU(),
            middle, norm(b, **where), nn.ReLU(), last,
        )  # fmt: skip
        return BlockConv(conv, body)


SUBSTITUTION = BlockSubstitution()
