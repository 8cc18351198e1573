"""The part of a split convolution for space: one filter for each input channel."""

from __future__ import annotations

import math
from typing import TypeAlias

from torch import Tensor, nn

from seclcompress.substitutions.shapes.convolve import convolve
from seclcompress.substitutions.shapes.factored import Factored
from seclcompress.substitutions.site import Convolution, convolution_of


class FactoredDepthwise(Factored):
    """A depthwise convolution whose filters are made from factors.

    Subclasses say `factors`, and `make_weight` with shape (in_channels, 1, *kernel_size).

    Args:
        conv: The convolution whose geometry is taken over.
    """

    def __init__(self, conv: Convolution) -> None:
        super().__init__()
        self.in_channels, self.kernel_size = conv.in_channels, conv.kernel_size
        self.stride, self.dilation = conv.stride, conv.dilation
        self.padding, self.padding_mode = conv.padding, conv.padding_mode

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in_channels, *spatial) to (batch, in_channels, *output_size)."""
        return convolve(x, self.weight().to(x.dtype), None, self, groups=self.in_channels)


#: A depthwise convolution, plain or from factors.
Space: TypeAlias = Convolution | FactoredDepthwise


def new_depthwise(conv: Convolution) -> Convolution:
    """A depthwise convolution of `conv`'s geometry that keeps the variance of white input."""
    filters = conv.weight.new_empty(conv.in_channels, 1, *conv.kernel_size)
    # What torch draws for a new convolution, replaced at once: a seed gives the weights it always gave.
    nn.init.kaiming_uniform_(filters, a=math.sqrt(5))
    nn.init.normal_(filters, std=1 / math.sqrt(math.prod(conv.kernel_size)))
    return convolution_of(filters, None, conv, groups=conv.in_channels)


def plain_depthwise(space: Space) -> Convolution:
    """Torch's own depthwise convolution with the same filters, nothing shared."""
    filters = space.make_weight() if isinstance(space, FactoredDepthwise) else space.weight
    return convolution_of(filters, None, space, groups=space.in_channels)
