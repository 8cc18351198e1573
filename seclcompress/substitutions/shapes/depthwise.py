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

    Subclasses define `factors`, and `make_weight` with shape (in_channels, 1, *kernel_size).

    Args:
        conv: The convolution to replace; its geometry is copied.
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
    """Makes an untrained depthwise convolution of `conv`'s geometry.

    Its outputs have the variance of white input.
    """
    filters = conv.weight.new_empty(conv.in_channels, 1, *conv.kernel_size)
    # These values, which torch draws for a new convolution, are overwritten. Drawing them advances the
    # random number generator as earlier versions did, so a seed gives the same weights as it did then.
    nn.init.kaiming_uniform_(filters, a=math.sqrt(5))
    nn.init.normal_(filters, std=1 / math.sqrt(math.prod(conv.kernel_size)))
    return convolution_of(filters, None, conv, groups=conv.in_channels)


def plain_depthwise(space: Space) -> Convolution:
    """Makes torch's own depthwise convolution with copies of the filters."""
    filters = space.make_weight() if isinstance(space, FactoredDepthwise) else space.weight
    return convolution_of(filters, None, space, groups=space.in_channels)
