"""The results of a trace, as data."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from seclcompress.substitutions.site import CallSize


@dataclass(frozen=True)
class ModuleCall:
    """One finished call of a module whose output is one tensor.

    Attributes:
        name: The module's name in the network.
        shape: Shape of the output: (batch, channels, *spatial), or (batch, *positions, channels) if
            `channels_last`.
        input_shape: Shape of the first input, likewise; None if that is not a tensor.
        channels_last: Whether the last dimension holds the channels, as in a Linear's output.
    """

    name: str
    shape: tuple[int, ...]
    input_shape: tuple[int, ...] | None = None
    channels_last: bool = False

    @property
    def size(self) -> CallSize:
        """Sizes of input and output without batch and channels; for a Linear the number of positions."""
        return CallSize(self._spatial(self.input_shape or ()), self._spatial(self.shape))

    def _spatial(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (math.prod(shape[1:-1]),) if self.channels_last else shape[2:]


@dataclass
class Trace:
    """A record of one image (clip, pair of images) of `input_size` in a network in eval mode.

    Attributes:
        input_size: (channels, *spatial).
        calls: The calls of modules with one tensor as output, in the order in which they finished.
        mult_adds: Mult-Adds of contractions by the innermost module that ran them; "" is the
            network itself.
        uncounted: Number of runs of each operation that counts as zero by convention.
        unknown: Number of runs of each operation that this package cannot count.
        assumed: Number of runs of each operation whose output's size depends on values; its largest
            size was assumed.
        makers: The layers whose products became the network's outputs, with nothing but operations that
            count as zero in between (pooling, activations, resizing).
        readers: For each module whose parameters another module reads instead of calling it, the name
            of that other module.
    """

    input_size: tuple[int, ...]
    calls: list[ModuleCall] = field(default_factory=list)
    mult_adds: Counter[str] = field(default_factory=Counter)
    uncounted: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    assumed: Counter[str] = field(default_factory=Counter)
    makers: set[str] = field(default_factory=set)
    readers: dict[str, str] = field(default_factory=dict)

    @property
    def total_mult_adds(self) -> int:
        """Mult-Adds per image of all contractions."""
        return self.mult_adds.total()

    def sizes(self, name: str) -> Counter[CallSize]:
        """How often a module runs, by size. A call with several images counts once for each."""
        sizes: Counter[CallSize] = Counter()
        for call in self.calls:
            if call.name == name:
                sizes[call.size] += call.shape[0]
        return sizes
