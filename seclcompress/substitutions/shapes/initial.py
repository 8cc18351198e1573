"""The size of a replacement's initial values."""

from __future__ import annotations

import math

from seclcompress.substitutions.site import Convolution


def white_gain(conv: Convolution) -> float:
    """The standard deviation of a convolution's outputs for white input, without the bias.

    That is `√(Σ w² ÷ out_channels)`. For an untrained layer it follows from the layer's own
    initialisation; for a trained layer it is the size of outputs that the following layers expect. A
    layer of zeros, and one on the meta device, get the value of torch's default initialisation,
    `√(1/3)`.
    """
    default = math.sqrt(1 / 3)
    if conv.weight.is_meta:
        return default
    energy = float(conv.weight.detach().double().square().sum()) / conv.out_channels
    return math.sqrt(energy) if energy > 0 else default
