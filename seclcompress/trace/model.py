"""What a trace tells, as data."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from seclcompress.substitutions.site import CallSize


@dataclass(frozen=True)
class ModuleCall:
    """One module finished with one tensor as output.

    Attributes:
        name: Where the module is.
        shape: Of the output, (batch, channels, *spatial); (batch, *positions, channels) where
            `channels_last`.
        input_shape: Of its first input, likewise; None where that is no tensor.
        channels_last: Whether the last dimension holds the channels, as in a Linear's output.
    """

    name: str
    shape: tuple[int, ...]
    input_shape: tuple[int, ...] | None = None
    channels_last: bool = False

    @property
    def size(self) -> CallSize:
        """Of input and output without batch and channels; of a Linear its number of positions."""
        return CallSize(self._spatial(self.input_shape or ()), self._spatial(self.shape))

    def _spatial(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (math.prod(shape[1:-1]),) if self.channels_last else shape[2:]


@dataclass
class Trace:
    """What one image (clip, pair of images) of `input_size` does in a network in eval mode.

    Attributes:
        input_size: (channels, *spatial).
        calls: Modules in the order in which they finished, those with one tensor as output.
        mult_adds: Mult-Adds of contractions by the innermost module that ran them; "" is the
            network itself.
        uncounted: How often each operation ran that by convention counts nothing.
        unknown: The same for operations that nobody here knows how to count.
        assumed: The same for operations whose output's size depends on values; it was taken at its
            largest.
        readers: By module, another one that reads its parameters instead of calling it.
    """

    input_size: tuple[int, ...]
    calls: list[ModuleCall] = field(default_factory=list)
    mult_adds: Counter[str] = field(default_factory=Counter)
    uncounted: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    assumed: Counter[str] = field(default_factory=Counter)
    readers: dict[str, str] = field(default_factory=dict)

    @property
    def total_mult_adds(self) -> int:
        """Mult-Adds an image of all contractions."""
        return self.mult_adds.total()

    @property
    def outputs(self) -> int:
        """Classes in the network's own output; 0 if that is not one tensor (batch, classes)."""
        own = [call.shape for call in self.calls if call.name == ""]
        return own[-1][1] if own and len(own[-1]) == 2 else 0

    def sizes(self, name: str) -> Counter[CallSize]:
        """How often a module runs on each size; every call and image counts once."""
        sizes: Counter[CallSize] = Counter()
        for call in self.calls:
            if call.name == name:
                sizes[call.size] += call.shape[0]
        return sizes
