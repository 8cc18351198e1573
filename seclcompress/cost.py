"""Parameters and Mult-Adds as integers, from shapes alone.

One Mult-Add (MAC) is one multiply and one add. Counts are for one image. Biases, normalisation,
activations, pooling and additions are not contractions and count nothing, as in the paper, in
torchvision's published `_ops` and in fvcore's figures for convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: The ways to execute a structured layer: its dense matrix, or its fast transform.
EXECUTIONS = ("dense", "fast")


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs.

    Attributes:
        parameters: Trainable numbers, the bias included.
        dense: Mult-Adds an image when the layer's matrices are multiplied out.
        fast: Mult-Adds an image when its transform is used; `dense` for a layer that has none.
    """

    parameters: int
    dense: int
    fast: int

    def mult_adds(self, execution: str) -> int:
        """Mult-Adds an image under `execution`, `dense` or `fast`."""
        return self.dense if execution == "dense" else self.fast

    @property
    def cheapest(self) -> str:
        """The execution with fewer Mult-Adds; `dense` where they are equal."""
        return "fast" if self.fast < self.dense else "dense"


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
    output_size: Sequence[int],
) -> int:
    """One weight is used once at each output position: weights × Π output_size.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: One number a spatial dimension.
        groups: Groups; each output channel sees `in_channels ÷ groups` inputs.
        output_size: The output's spatial size.

    Returns:
        Mult-Adds an image.
    """
    weights = convolution_parameters(in_channels, out_channels, kernel_size, groups, bias=False)
    return weights * math.prod(output_size)


def acdc_parameters(length: int, depth: int) -> int:
    """The diagonals A and D of `depth` ACDC layers: `2 N L` (SECL paper, equation 2)."""
    return 2 * length * depth


def acdc_mult_adds(length: int, depth: int) -> int:
    """Mult-Adds of a stack of ACDC layers at one position, run by fast transforms.

    SECL paper, section 4.1: `4N + 5N log₂ N` a layer. Where N is no power of two the logarithm is
    not whole; a layer is then rounded up, so that the figure never flatters.

    Args:
        length: The length N of the transforms.
        depth: The number L of ACDC layers.

    Returns:
        Mult-Adds a position.
    """
    transform = math.ceil(5 * length * math.log2(length))  # log2 is exact for powers of two
    return depth * (4 * length + transform)
