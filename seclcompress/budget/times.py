"""How long each candidate takes, by the clock of a runtime, and what that says about the whole network.

A layer and its replacement are timed in turn (`measure.Stopwatch`), and the whole network as it is. What
a rewritten network takes is then predicted, not measured:

    whole as it is + Σ over rewritten layers (replacement − layer as it is)

So what is outside the layers, and what calling a layer costs, cancels. What is not in a sum of single
layers: memory that one layer leaves in the processor's caches for the next, and that runtimes merge
neighbouring operators.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from seclcompress.budget.sensitivity import spelled
from seclcompress.cost import DENSE
from seclcompress.measure import Stopwatch
from seclcompress.plan import ORIGINAL, Choice
from seclcompress.substitutions import Site, Substitution, SubstitutionConfig

_NANO = 1e9


@dataclass(frozen=True)
class Times:
    """What a network and the candidates of its layers take for one image.

    Attributes:
        runtime: The runtime.
        whole: Seconds of the network as it is.
        layers: Nanoseconds of the layers as they are, by name.
        choices: What was measured of each replacement beside its layer, by the layer's name and the
            replacement: the execution that the clock chose, and then `dense` if that is another.
    """

    runtime: str
    whole: float
    layers: Mapping[str, int]
    choices: Mapping[tuple[str, str], tuple[Choice, ...]]

    @property
    def beside(self) -> int:
        """Nanoseconds outside the layers; negative where layers take more alone than in the network."""
        return round(_NANO * self.whole) - sum(self.layers.values())

    def kept(self, name: str) -> int:
        """Nanoseconds of a layer as it is; 0 for one that was not timed."""
        return self.layers.get(name, 0)

    def rewritten(
        self, site: Site, family: Substitution, config: SubstitutionConfig
    ) -> list[tuple[Choice, int]]:
        """A replacement's executions, as in `choices`, with their nanoseconds.

        They are those of the layer as it is, and what the replacement took more or less beside it.
        """
        found = []
        for choice in self.choices[site.name, spelled(family, config)]:
            assert choice.seconds is not None
            longer = choice.seconds[choice.execution] - choice.seconds[ORIGINAL]
            found.append((choice, max(0, self.layers[site.name] + round(_NANO * longer))))
        return found


def time_candidates(
    jobs: Sequence[tuple[Site, Sequence[tuple[Substitution, SubstitutionConfig]]]],
    stopwatch: Stopwatch,
    whole: float,
) -> Times:
    """Times candidates.

    Args:
        jobs: The layers, and what each may become.
        stopwatch: Times layers as they are as well (`originals`), one image at a time.
        whole: Seconds of the whole network as it is.
    """
    for site, replacements in jobs:
        for one in replacements:
            stopwatch.foresee(site, *one)  # so that it can say how much is left
    choices: dict[tuple[str, str], tuple[Choice, ...]] = {}
    layers: dict[str, int] = {}
    for site, replacements in jobs:
        beside: list[float] = []
        for one in replacements:
            choice = stopwatch.choose(site, *one)
            assert choice.seconds is not None
            ways = [choice]
            if choice.execution != DENSE and DENSE in choice.seconds:
                dense = stopwatch.choose(site, *one, DENSE)
                ways.append(replace(dense, alone=choice.execution))
            choices[site.name, spelled(*one)] = tuple(ways)
            beside.append(choice.seconds[ORIGINAL])
        layers[site.name] = round(_NANO * statistics.median(beside))
    return Times(stopwatch.clock.runtime, whole, layers, choices)
