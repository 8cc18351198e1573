"""Parameters and Mult-Adds as integers, computed from shapes alone.

One Mult-Add (MAC) is one multiplication and one addition. Counts are for one image. Biases,
normalisation, activations, pooling and additions are not contractions and count as zero, as in the
paper, in torchvision's published `_ops` and in fvcore's figures for convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: The ways to execute a layer: `dense` multiplies its factors out, `fast` runs a fast transform. Each
#: family names those that it has.
EXECUTIONS = ("dense", "fast")
DENSE = EXECUTIONS[0]


@dataclass(frozen=True)
class LayerCost:
    """The cost of one layer.

    Attributes:
        parameters: Number of trainable values, including the bias.
        mult_adds: Mult-Adds per image by execution, for one or more of `EXECUTIONS`. The layer runs the
            first where it is asked for an execution that it does not have.
        note: A remark for readers of the plan on how the layer is built, such as a length that was
            rounded up; may be empty.
    """

    parameters: int
    mult_adds: dict[str, int]
    note: str = ""

    def under(self, execution: str) -> int:
        """Mult-Adds per image when this execution is asked for."""
        return self.mult_adds.get(execution, next(iter(self.mult_adds.values())))

    @property
    def cheapest(self) -> str:
        """The execution with the fewest Mult-Adds; the first of several that are equal."""
        return min(self.mult_adds, key=lambda execution: self.mult_adds[execution])


def convolution_parameters(
    in_channels: int, out_channels: int, kernel_size: Sequence[int], groups: int, bias: bool
) -> int:
    """Parameters of a convolution: `out · (in ÷ groups) · Π kernel`, plus `out` with a bias."""
    weight = out_channels * (in_channels // groups) * math.prod(kernel_size)
    return weight + (out_channels if bias else 0)


def convolution_output_size(
    sizes: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    around: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:
    """The spatial size of a convolution's output, by the formula of torch.nn.Conv2d.

    Args:
        sizes: The spatial size of the input, one number per dimension, as in all arguments.
        kernel_size: Taps of the kernel.
        stride: Steps of the kernel.
        around: What is added before and behind, together.
        dilation: Steps between the kernel's taps.
    """
    return [
        (size + added - apart * (taps - 1) - 1) // step + 1
        for size, taps, step, added, apart in zip(
            sizes, kernel_size, stride, around, dilation, strict=True
        )
    ]


def convolution_mult_adds(
    in_channels: int,
    out_channels: int,
    kernel_size: Sequence[int],
    groups: int,
    positions: int,
) -> int:
    """Mult-Adds of a convolution: every weight is used once at every output position.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: One number per spatial dimension.
        groups: Number of groups; each output channel sees `in_channels ÷ groups` input channels.
        positions: Number of output positions, `Π output_size`, over all calls for one image.

    Returns:
        Mult-Adds per image.
    """
    weights = convolution_parameters(in_channels, out_channels, kernel_size, groups, bias=False)
    return weights * positions
