"""The measured cost model: the choice between dense and fast by timing both on this machine.

Each layer's executions, and where it is asked for the layer as it is, are timed alternately at the
layer's true shape, in eval mode, after a warm-up, by the clock of one runtime. A cache file keeps the
results, with everything that influences them as key, so that a second conversion measures nothing.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from seclcompress import kernel
from seclcompress.cost import EXECUTIONS
from seclcompress.files import Cache
from seclcompress.fusing import FusedConv, FusedStack, fused_layer
from seclcompress.kernel.layout import CHANNELS_LAST
from seclcompress.plan import ORIGINAL, Choice
from seclcompress.settings.planning import TORCH
from seclcompress.substitutions import CallSize, Site, Substitution, SubstitutionConfig
from seclcompress.substitutions.site import convolution_of
from seclcompress.timing import Timing, alternate, processor

ROUNDS = 21
#: The difference of two medians that chance exceeds about one time in twenty, as a share of the wider
#: interquartile range. For normal noise of standard deviation σ in independent rounds the difference is
#: 1.96 √2 · 1.253 σ / √rounds, and the interquartile range is 1.349 σ. (Noise that lasts for several
#: rounds makes larger differences more frequent.)
_NOISE = 1.96 * math.sqrt(2) * 1.253 / 1.349 / math.sqrt(ROUNDS)
#: Shortest time of one candidate in each direction of a round. In less, the overhead of the clock and
#: of the calls would matter.
MIN_SECONDS = 0.002


#: How modules are timed, in the key of results: those of earlier versions, which had other methods, are
#: not used.
METHOD = {"there and back": ROUNDS, "allocator": "settled"}


def chance(one: Timing, other: Timing) -> float:
    """The difference in seconds that chance may make between two medians of `ROUNDS` rounds."""
    return _NOISE * max(one.spread, other.spread)


def faster(one: Timing, other: Timing) -> bool:
    """Whether one is faster than another by more than chance makes."""
    return one.median + chance(one, other) < other.median


def default_cache() -> Path:
    """The path `$XDG_CACHE_HOME/seclcompress/timings.json`; `~/.cache` if the variable is not set."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return Path(base) / "seclcompress" / "timings.json"


class Clock(Protocol):
    """Times modules in one runtime. torch's is here; those of other runtimes stand above this module."""

    @property
    def runtime(self) -> str:
        """The runtime's name."""

    @property
    def executions(self) -> tuple[str, ...]:
        """The executions of `cost.EXECUTIONS` that a layer can have in the runtime."""

    def about(self) -> dict[str, Any]:
        """What of the runtime influences the seconds, as JSON values: the runtime's part of the key."""

    def time(self, candidates: Mapping[str, nn.Module], x: Tensor) -> dict[str, Timing]:
        """Times modules in turn, with as many threads as torch has.

        Args:
            candidates: Modules in eval mode, by name.
            x: What each of them is run on, images first: (batch, channels, *spatial), or for Linears
                (batch, features) or (batch, positions, features).
        """


@dataclass(frozen=True)
class TorchClock:
    """torch's clock.

    Attributes:
        channels_last: Whether images and clips are in torch's channels_last layout.
    """

    channels_last: bool = False
    runtime: str = TORCH
    executions: tuple[str, ...] = EXECUTIONS

    def about(self) -> dict[str, Any]:
        """Torch's layout, whether there is the compiled kernel, and that layers are fused with it."""
        return {
            "kernel": kernel.available(),
            "channels_last": self.channels_last,
            "layers": "fused",
        }

    def time(self, candidates: Mapping[str, nn.Module], x: Tensor) -> dict[str, Timing]:
        """Times modules in turn in inference mode, each fused where `fused_layer` can; see `Clock`."""
        ready = {name: fused_layer(candidate) for name, candidate in candidates.items()}
        # Whatever the network's layout is, images are channels last behind the first fused module.
        fused = any(isinstance(one, FusedConv | FusedStack) for one in ready.values())
        last = CHANNELS_LAST.get(x.dim()) if self.channels_last or fused else None
        if last is not None:
            x = x.contiguous(memory_format=last)
            for candidate in ready.values():
                candidate.to(memory_format=last)  # type: ignore[call-overload]
        with torch.inference_mode():
            return alternate(
                {name: functools.partial(run, x) for name, run in ready.items()},
                rounds=ROUNDS,
                min_seconds=MIN_SECONDS,
            )


@dataclass(frozen=True)
class _Case:
    """One thing to time: a family's replacement of a layer, on inputs of one size."""

    site: Site
    substitution: Substitution
    config: SubstitutionConfig
    size: CallSize

    def __str__(self) -> str:
        size = "×".join(map(str, self.size.output))
        return f"{self.substitution.name} for {_described(self.site)} at {size}"


@dataclass
class Stopwatch:
    """Chooses between executions by timing them, and caches the results.

    Attributes:
        cache: The file that keeps the results; None keeps them in memory only.
        batch: Images per batch.
        clock: The clock of the runtime that will run the network.
        originals: Whether layers as they are are timed as well.
        on_measure: Called with each layer's description before the layer is measured.
        measured: Number of cases that were measured, not taken from the cache.
        unsteady: Number of those that varied so much that they are not remembered in the file.
    """

    cache: Path | None = None
    batch: int = 1
    clock: Clock = field(default_factory=TorchClock)
    originals: bool = False
    on_measure: Callable[[str], object] = str  # no effect
    measured: int = 0
    unsteady: int = 0
    _remembered: Cache[dict[str, list[float]]] = field(init=False, repr=False)
    _ahead: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._remembered = Cache(self.cache, _sound, "Timings")

    def foresee(self, site: Site, substitution: Substitution, config: SubstitutionConfig) -> Choice:
        """Notes what `choose` will have to measure, so that it can say how much is left.

        Returns:
            A choice without any meaning: this is called where a plan asks for one.
        """
        for case in _cases(site, substitution, config):
            if not self._is_known(case):
                self._ahead.add(self._key(case))
        return Choice(substitution.executions[0])

    def choose(
        self,
        site: Site,
        substitution: Substitution,
        config: SubstitutionConfig,
        execution: str | None = None,
    ) -> Choice:
        """Chooses the execution with the lowest median time among those that the runtime has.

        The family's first execution is chosen unless another is faster by more than the noise.

        Args:
            site: The layer.
            substitution: The family.
            config: The family's options.
            execution: One that is taken whatever the times are; None to choose.
        """
        seconds = dict.fromkeys(self._candidates(substitution), 0.0)
        sized: list[tuple[int, dict[str, Timing]]] = []
        for case in _cases(site, substitution, config):
            timings, times = self._timings(case), site.calls[case.size]
            sized.append((times, timings))
            for name, timing in timings.items():
                seconds[name] += times * timing.median

        def noise(one: str, other: str) -> float:
            return sum(times * chance(timings[one], timings[other]) for times, timings in sized)

        ways = self._executions(substitution)
        fastest = min(ways, key=lambda execution: seconds[execution])
        faster = seconds[fastest] + noise(fastest, ways[0]) < seconds[ways[0]]
        chosen = execution or (fastest if faster else ways[0])
        beside = noise(chosen, ORIGINAL) if self.originals else 0.0
        return Choice(chosen, seconds, beside, self.clock.runtime)

    def _executions(self, substitution: Substitution) -> list[str]:
        """The family's executions that the runtime has; every runtime has `dense`."""
        return [way for way in substitution.executions if way in self.clock.executions]

    def _candidates(self, substitution: Substitution) -> list[str]:
        return [*([ORIGINAL] if self.originals else []), *self._executions(substitution)]

    def _is_known(self, case: _Case) -> bool:
        known = self._remembered.known.get(self._key(case), {})
        return known.keys() >= set(self._candidates(case.substitution))

    def _timings(self, case: _Case) -> dict[str, Timing]:
        key = self._key(case)
        if not self._is_known(case):
            place = f" ({self.measured + 1} of {len(self._ahead)})" if self._ahead else ""
            self.on_measure(f"{case}{place}")
            timings = self._measure(case)
            self.measured += 1
            self._remembered.known[key] = {
                name: [t.median, t.spread] for name, t in timings.items()
            }
            if not any(t.is_unsteady for t in timings.values()):
                self._remembered.keep(key)
            else:
                self.unsteady += 1
        known = self._remembered.known[key]
        return {name: Timing(*known[name]) for name in self._candidates(case.substitution)}

    def _measure(self, case: _Case) -> dict[str, Timing]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer = _with_values(case.site)
            built = case.substitution.build(layer, case.config).eval()
            x = _input_of(layer, case.size, self.batch)
        # What `inference.for_inference` would run without fusing; a clock may fuse them.
        ways = {way: built.ready(way) for way in self._executions(case.substitution)}
        every = {ORIGINAL: layer.eval(), **ways}
        return self.clock.time(
            {name: every[name] for name in self._candidates(case.substitution)}, x
        )

    def _key(self, case: _Case) -> str:
        """The cache's key: everything that influences the seconds.

        The last ones describe the method of measuring; see `METHOD`.
        """
        about: dict[str, Any] = {
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "seclcompress": metadata.version("seclcompress"),
            "layer": _described(case.site),
            "size": case.size,
            "dtype": str(case.site.convolution.weight.dtype),
            "substitution": case.substitution.name,
            "config": case.config.model_dump(mode="json"),
            "batch": self.batch,
            **self.clock.about(),
            "dense": "plain layers",
            **METHOD,
        }
        return json.dumps(about, sort_keys=True)


def are_timings(value: object) -> bool:
    """Whether something that was read is medians and spreads by name."""
    return isinstance(value, Mapping) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(seconds, float) and 0 <= seconds < 1e6 for seconds in pair)
        for pair in value.values()
    )


def _sound(value: object) -> bool:
    return (
        isinstance(value, Mapping) and set(value) <= {ORIGINAL, *EXECUTIONS} and are_timings(value)
    )


def _cases(site: Site, substitution: Substitution, config: SubstitutionConfig) -> Iterator[_Case]:
    for size in site.calls:
        yield _Case(site, substitution, config, size)


def _plain(site: Site) -> nn.Module:
    """The Linear, or the plain convolution that computes what the layer does."""
    return site.layer if isinstance(site.layer, nn.Linear) else site.convolution


def _described(site: Site) -> str:
    layer = _plain(site)
    kind = nn.Linear.__name__ if isinstance(layer, nn.Linear) else type(layer).__name__
    return f"{kind}({layer.extra_repr()})"


def _with_values(site: Site) -> nn.Module:
    """A layer of the same shape with values on the CPU. A plan's own often has no values."""
    conv = site.convolution
    weight = torch.randn(conv.weight.shape).mul_(conv.weight[0].numel() ** -0.5)
    weight = weight.to(conv.weight.dtype)
    bias = None if conv.bias is None else weight.new_zeros(conv.out_channels)
    if not isinstance(site.layer, nn.Linear):
        return convolution_of(weight, bias, conv, conv.groups)
    linear = nn.Linear(conv.in_channels, conv.out_channels, bias=False, device="meta")
    linear.weight = nn.Parameter(weight.squeeze(-1))
    linear.bias = None if bias is None else nn.Parameter(bias)  # type: ignore[assignment]
    return linear


def _input_of(layer: nn.Module, size: CallSize, batch: int) -> Tensor:
    """Random numbers as the layer sees them; a Linear at one position has no dimension for it."""
    if isinstance(layer, nn.Linear):
        positions = () if size.input == (1,) else size.input
        x = torch.randn(batch, *positions, layer.in_features)
    else:
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        x = torch.randn(batch, layer.in_channels, *size.input)
    return x.to(next(layer.parameters()).dtype)
