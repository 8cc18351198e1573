"""How large a replacement's first values are."""

from __future__ import annotations

import math

from seclcompress.substitutions.site import Convolution


def white_gain(conv: Convolution) -> float:
    """The standard deviation of a convolution's outputs, per unit of white input, bias left out.

    That is `√(Σ w² ÷ out_channels)`: for an untrained layer what its own initialisation gives, for a
    trained one what the layers behind it are used to. A layer of zeros, and one on the meta device,
    get the value of torch's default initialisation, `√(1/3)`.
    """
    default = math.sqrt(1 / 3)
    if conv.weight.is_meta:
        return default
    energy = float(conv.weight.detach().double().square().sum()) / conv.out_channels
    return math.sqrt(energy) if energy > 0 else default
