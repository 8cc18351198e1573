"""What a trace tells, as data."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModuleCall:
    """One module finished with one tensor as output.

    Attributes:
        name: Where the module is.
        shape: Of the output, (batch, channels, *spatial); (batch, *positions, channels) where
            `channels_last`.
        channels_last: Whether the last dimension holds the channels, as in a Linear's output.
    """

    name: str
    shape: tuple[int, ...]
    channels_last: bool = False

    @property
    def size(self) -> tuple[int, ...]:
        """The output's size without batch and channels: of a Linear's, its number of positions."""
        return (math.prod(self.shape[1:-1]),) if self.channels_last else self.shape[2:]


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

    def output_sizes(self, name: str) -> Counter[tuple[int, ...]]:
        """How often each size occurs among a module's outputs; every call and image counts once."""
        sizes: Counter[tuple[int, ...]] = Counter()
        for call in self.calls:
            if call.name == name:
                sizes[call.size] += call.shape[0]
        return sizes
