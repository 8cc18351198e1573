"""A clock for tests: it says what it is told to, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from seclcompress.timing import Timing


@dataclass
class TellingClock:
    """Says these times, in milliseconds, of every layer; all whole networks take as long.

    Attributes:
        times: Milliseconds by candidate of a layer.
        spread: The interquartile range of each, in milliseconds.
        runtime: The runtime's name.
        executions: What the runtime has.
        asked: The candidates and the shape of the input, for each call.
    """

    times: Mapping[str, float]
    spread: float = 0.0
    runtime: str = "onnxruntime"
    executions: tuple[str, ...] = ("dense",)
    version: str = "1"
    asked: list[tuple[dict[str, nn.Module], tuple[int, ...]]] = field(default_factory=list)

    def about(self) -> dict[str, Any]:
        return {"runtime": f"{self.runtime} {self.version}"}

    def time(self, candidates: Mapping[str, nn.Module], x: Tensor) -> dict[str, Timing]:
        self.asked.append((dict(candidates), tuple(x.shape)))
        whole = "dense" not in candidates  # networks have other names
        return {
            name: Timing((20.0 if whole else self.times[name]) / 1e3, self.spread / 1e3)
            for name in candidates
        }
