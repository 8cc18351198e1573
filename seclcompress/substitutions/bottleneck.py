"""Bottleneck: 1×1, BN, ReLU, grouped k×k, BN, ReLU, 1×1 in place of one k×k convolution.

Crowley, Gray & Storkey, "Moonshine: Distilling with Cheap Convolutions", 2018. Their names are aliases:
G8B2 is `groups=8` with `reduction=2`, DConvB4 is `groups=depthwise` with `reduction=4`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from torch import nn

from seclcompress.cost import LayerCost, convolution_mult_adds, convolution_parameters
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.shapes import BlockConv
from seclcompress.substitutions.shapes.split import is_pointwise
from seclcompress.substitutions.site import CONVOLUTIONS, Site

_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_ALIAS = re.compile(r"(?:G(?P<groups>1|2|4|8|16)|(?P<depthwise>DConv))?B(?P<reduction>2|4|8|16)")


def _number(value: Any) -> Any:
    """Reads a number from the command line, where every value is text."""
    if isinstance(value, bool):  # it would count as 1
        raise ValueError("it takes a number, not true or false")
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class BottleneckConfig(SubstitutionConfig):
    """Options of the bottleneck.

    Attributes:
        groups: The number of input channels of each group of the k×k convolution, as in Moonshine's
            G8B2, where the middle of b channels has b ÷ 8 groups. `depthwise` is the same as 1, `full`
            one group of all channels.
        reduction: How many times fewer channels the middle has than the output.
    """

    groups: Annotated[Literal[1, 2, 4, 8, 16, "depthwise", "full"], BeforeValidator(_number)] = (
        Field(default=8, description="input channels of a group of the k×k; full: all of them")
    )
    reduction: Annotated[Literal[2, 4, 8, 16], BeforeValidator(_number)] = Field(
        default=2, description="output channels ÷ channels of the middle"
    )

    @classmethod
    def ladder(cls) -> tuple[dict[str, Any], ...]:
        """Every reduction, with groups of 1, 4 and 16 channels and with one group."""
        return tuple(
            {"groups": groups, "reduction": reduction}
            for groups in (1, 4, 16, "full")
            for reduction in (2, 4, 8, 16)
        )


class BottleneckSubstitution(Substitution):
    """A bottleneck with batch norms and ReLUs inside, for convolutions with a kernel above 1×1."""

    name = "bottleneck"
    summary = "1×1, BN, ReLU, grouped k×k, BN, ReLU, 1×1; G8B2 = groups=8,reduction=2, DConvB4, …"
    Config = BottleneckConfig
    affine = False
    #: Moonshine replaces every k×k convolution of the blocks, also the one that grows by it (from the
    #: 16 channels of the stem, with g = 16).
    must_shrink = False

    def alias(self, name: str) -> Mapping[str, Any] | None:
        """The options that one of Moonshine's names stands for: G8B2, DConvB4, B2."""
        match = _ALIAS.fullmatch(name)
        if match is None:
            return None
        width = int(match["groups"]) if match["groups"] else "full"
        groups = "depthwise" if match["depthwise"] else width
        return {"groups": groups, "reduction": int(match["reduction"])}

    def _refuse(self, site: Site, config: BottleneckConfig) -> str | None:
        conv = site.convolution
        if is_pointwise(conv):
            return "a bottleneck is for kernels above 1×1"
        if conv.out_channels % config.reduction:
            return (
                f"its {conv.out_channels} output channels cannot be divided by reduction="
                f"{config.reduction}"
            )
        middle = conv.out_channels // config.reduction
        if middle % _width(site, config):
            return (
                f"{middle} channels in the middle cannot be split into groups of "
                f"{config.groups} channels"
            )
        return None

    def cost(self, site: Site, config: BottleneckConfig) -> LayerCost:
        """`c_in·b + k·g·b + b·c_out + 4b` parameters, b in the middle and g channels in a group."""
        conv = site.convolution
        b, width = conv.out_channels // config.reduction, _width(site, config)
        ones = (1,) * len(conv.kernel_size)
        layers = [  # the first 1×1 runs at the input's size, even with a stride
            (conv.in_channels, b, ones, 1, site.input_positions),
            (b, b, conv.kernel_size, b // width, site.output_positions),
            (b, conv.out_channels, ones, 1, site.output_positions),
        ]
        bias = 0 if conv.bias is None else conv.out_channels
        parameters = sum(convolution_parameters(*each[:4], bias=False) for each in layers)
        mult_adds = sum(convolution_mult_adds(*each) for each in layers)
        return LayerCost(parameters + 4 * b + bias, {"dense": mult_adds})

    def _build(self, site: Site, config: BottleneckConfig) -> BlockConv:
        conv = site.convolution
        dimensions, b = len(conv.kernel_size), conv.out_channels // config.reduction
        kind: Any = CONVOLUTIONS[dimensions]
        norm: Any = _NORMS[dimensions]
        where: dict[str, Any] = {"device": conv.weight.device, "dtype": conv.weight.dtype}
        last = kind(b, conv.out_channels, 1, bias=conv.bias is not None, **where)
        if conv.bias is not None:
            last.bias.copy_(conv.bias)
        middle = kind(
            b,
            b,
            conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=b // _width(site, config),
            bias=False,
            padding_mode=conv.padding_mode,
            **where,
        )
        first = kind(conv.in_channels, b, 1, bias=False, **where)
        for each in (first, middle, last):  # as wide residual networks start, for the ReLUs inside
            nn.init.kaiming_normal_(each.weight, mode="fan_out", nonlinearity="relu")
        body = nn.Sequential(
            first, norm(b, **where), nn.ReLU(), middle, norm(b, **where), nn.ReLU(), last
        )
        return BlockConv(conv, body)


def _width(site: Site, config: BottleneckConfig) -> int:
    """The input channels of one group of the k×k convolution."""
    if config.groups == "full":
        return site.convolution.out_channels // config.reduction
    return 1 if config.groups == "depthwise" else config.groups


SUBSTITUTION = BottleneckSubstitution()
