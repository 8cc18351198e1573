"""The measured cost model: the choice between dense and fast by timing both on this machine.

Each layer's executions are timed alternately at the layer's true shape, in eval mode, after a warm-up.
A cache file keeps the results, with everything that influences them as key, so that a second conversion
measures nothing.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seclcompress import kernel
from seclcompress.cost import EXECUTIONS
from seclcompress.errors import ArtefactError, SeclcompressWarning
from seclcompress.files import write_file
from seclcompress.fusing import FusedConv, FusedStack, fused_layer
from seclcompress.kernel.layout import CHANNELS_LAST
from seclcompress.plan import Choice
from seclcompress.substitutions import CallSize, Site, Substitution, SubstitutionConfig
from seclcompress.substitutions.site import Convolution, convolution_of
from seclcompress.timing import Timing, alternate, processor

_ROUNDS = 21
#: The difference of two medians that chance exceeds about one time in twenty, as a share of the wider
#: interquartile range. For normal noise of standard deviation σ in independent rounds the difference is
#: 1.96 √2 · 1.253 σ / √rounds, and the interquartile range is 1.349 σ. (Noise that lasts for several
#: rounds makes larger differences more frequent.)
_NOISE = 1.96 * math.sqrt(2) * 1.253 / 1.349 / math.sqrt(_ROUNDS)
#: Shortest time of one candidate in each direction of a round. In less, the overhead of the clock and
#: of the calls would matter.
_MIN_SECONDS = 0.002


def default_cache() -> Path:
    """The path `$XDG_CACHE_HOME/seclcompress/timings.json`; `~/.cache` if the variable is not set."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return Path(base) / "seclcompress" / "timings.json"


@dataclass(frozen=True)
class _Case:
    """One thing to time: a family's replacement of a convolution, on inputs of one size."""

    conv: Convolution
    substitution: Substitution
    config: SubstitutionConfig
    size: CallSize


@dataclass
class Stopwatch:
    """Chooses between executions by timing them, and caches the results.

    Attributes:
        cache: The file that keeps the results; None keeps them in memory only.
        batch: Images per batch.
        channels_last: Whether images and clips are in torch's channels_last layout.
        on_measure: Called with each layer's description before the layer is measured.
        measured: Number of cases that were measured, not taken from the cache.
    """

    cache: Path | None = None
    batch: int = 1
    channels_last: bool = False
    on_measure: Callable[[str], object] = str  # no effect
    measured: int = 0
    _known: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known = _read(self.cache)

    def choose(self, site: Site, substitution: Substitution, config: SubstitutionConfig) -> Choice:
        """Chooses the execution with the lowest median time.

        The family's first execution is chosen unless another is faster by more than the noise.
        """
        seconds = dict.fromkeys(substitution.executions, 0.0)
        noise = 0.0
        for size, times in site.calls.items():
            timings = self._timings(_Case(site.convolution, substitution, config, size))
            for execution, timing in timings.items():
                seconds[execution] += times * timing.median
            noise += times * _NOISE * max(timing.spread for timing in timings.values())
        first = substitution.executions[0]
        fastest = min(seconds, key=lambda execution: seconds[execution])
        chosen = fastest if seconds[fastest] + noise < seconds[first] else first
        return Choice(chosen, seconds)

    def _timings(self, case: _Case) -> dict[str, Timing]:
        key = self._key(case)
        if self._known.get(key, {}).keys() != set(case.substitution.executions):
            output_size = "×".join(map(str, case.size.output))
            self.on_measure(f"{case.substitution.name} for {case.conv} at {output_size}")
            timings = self._measure(case)
            self.measured += 1
            self._known[key] = {name: [t.median, t.spread] for name, t in timings.items()}
            self._write()
        return {name: Timing(*values) for name, values in self._known[key].items()}

    def _measure(self, case: _Case) -> dict[str, Timing]:
        conv, substitution = case.conv, case.substitution
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            built = substitution.build(_with_values(conv), case.config).eval()
            x = torch.randn(self.batch, conv.in_channels, *case.size.input)
            x = x.to(conv.weight.dtype)
        # The modules that `inference.for_inference` would run.
        candidates = {way: fused_layer(built.ready(way)) for way in substitution.executions}
        # Whatever the network's layout is, images are channels last behind the first fused module.
        fused = any(isinstance(c, FusedConv | FusedStack) for c in candidates.values())
        last = CHANNELS_LAST.get(x.dim()) if self.channels_last or fused else None
        if last is not None:
            x = x.contiguous(memory_format=last)
            for candidate in candidates.values():
                candidate.to(memory_format=last)  # type: ignore[call-overload]

        def runner(candidate: nn.Module) -> Callable[[], object]:
            return lambda: candidate(x)

        with torch.inference_mode():
            return alternate(
                {way: runner(candidate) for way, candidate in candidates.items()},
                rounds=_ROUNDS,
                min_seconds=_MIN_SECONDS,
            )

    def _key(self, case: _Case) -> str:
        """The cache's key: everything that influences the seconds.

        The last three entries describe the method of measuring, so that results of earlier versions,
        which had other methods, are not used.
        """
        about: dict[str, Any] = {
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "seclcompress": metadata.version("seclcompress"),
            "kernel": kernel.available(),
            "layer": f"{type(case.conv).__name__}({case.conv.extra_repr()})",
            "size": case.size,
            "dtype": str(case.conv.weight.dtype),
            "substitution": case.substitution.name,
            "config": case.config.model_dump(mode="json"),
            "batch": self.batch,
            "channels_last": self.channels_last,
            "dense": "fused",
            "there and back": _ROUNDS,
            "allocator": "settled",
        }
        return json.dumps(about, sort_keys=True)

    def _write(self) -> None:
        if self.cache is not None:
            known = {**_read(self.cache), **self._known}  # another process may have written
            try:
                write_file(self.cache, json.dumps(known, indent=0, sort_keys=True).encode())
            except ArtefactError as error:  # the program works without its cache
                warnings.warn(f"Timings are not remembered: {error}", SeclcompressWarning, 2)
                self.cache = None


def _read(path: Path | None) -> dict[str, dict[str, list[float]]]:
    """Reads the results of earlier measurements. A damaged file counts as empty."""
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return (
        {key: value for key, value in content.items() if _sound(value)}
        if isinstance(content, dict)
        else {}
    )


def _sound(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and set(value) <= set(EXECUTIONS)
        and all(
            isinstance(pair, list)
            and len(pair) == 2
            and all(isinstance(seconds, float) and 0 <= seconds < 1e6 for seconds in pair)
            for pair in value.values()
        )
    )


def _with_values(conv: Convolution) -> Convolution:
    """A convolution of the same shape with values on the CPU. A plan's own often has no values."""
    weight = torch.randn(conv.weight.shape).mul_(conv.weight[0].numel() ** -0.5)
    weight = weight.to(conv.weight.dtype)
    bias = None if conv.bias is None else weight.new_zeros(conv.out_channels)
    return convolution_of(weight, bias, conv, conv.groups)
