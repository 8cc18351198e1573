"""Parameters and Mult-Adds as integers, from shapes alone.

One Mult-Add (MAC) is one multiply and one add. Counts are for one image. Biases, normalisation,
activations, pooling and additions are not contractions and count nothing, as in the paper, in
torchvision's published `_ops` and in fvcore's figures for convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: The ways to execute a layer: multiplied out, or by a fast transform. A family names those it has.
EXECUTIONS = ("dense", "fast")


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs.

    Attributes:
        parameters: Trainable numbers, the bias included.
        mult_adds: Mult-Adds an image by execution, one or more of `EXECUTIONS`; the first is what a
            layer runs that is asked for an execution it has not.
        note: What a reader of the plan should know of how the layer is built, such as a length that
            was rounded up; may be empty.
    """

    parameters: int
    mult_adds: dict[str, int]
    note: str = ""

    def under(self, execution: str) -> int:
        """Mult-Adds an image when this execution is asked for."""
        return self.mult_adds.get(execution, next(iter(self.mult_adds.values())))

    @property
    def cheapest(self) -> str:
        """The execution with the fewest Mult-Adds; the first of those that are equal."""
        return min(self.mult_adds, key=lambda execution: self.mult_adds[execution])


def convolution_parameters(
    in_channels: int, out_channels: int, kernel_size: Sequence[int], groups: int, bias: bool
) -> int:
    """`out · (in ÷ groups) · Π kernel`, and `out` more with a bias."""
    weight = out_channels * (in_channels // groups) * math.prod(kernel_size)
    return weight + (out_channels if bias else 0)


def convolution_mult_adds(
    in_channels: int,
    out_channels: int,
    kernel_size: Sequence[int],
    groups: int,
    positions: int,
) -> int:
    """One weight is used once at each output position: weights × positions.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: One number a spatial dimension.
        groups: Groups; each output channel sees `in_channels ÷ groups` inputs.
        positions: Output positions of an image, `Π output_size`.

    Returns:
        Mult-Adds an image.
    """
    weights = convolution_parameters(in_channels, out_channels, kernel_size, groups, bias=False)
    return weights * positions
