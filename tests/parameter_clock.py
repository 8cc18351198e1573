"""A clock of layers by their parameters, and of whole networks by what they have lost of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seclcompress.measure import Clock
from seclcompress.plan import ORIGINAL
from seclcompress.resolve import locate
from seclcompress.timing import Timing
from seclcompress.workflows import budgeting, by_time, curves, within_time

INPUT_SIZE = (3, 16, 16)
SIZE: dict[str, Any] = {"input_size": INPUT_SIZE, "num_classes": 10}


class ParameterClock:
    """A microsecond for each parameter and 2 ms for a call; the network as it is takes 50 ms.

    Attributes:
        whole: Seconds of the network as it is.
        slower: How much longer a replacement takes alone than its parameters say.
        saves: The share of the time of its lost parameters that a whole rewritten network saves.
        spread: Of whole networks, in seconds.
        asked: How often it was asked, `races` of them for whole networks.
    """

    runtime = "onnxruntime"
    executions = ("dense",)

    def __init__(self) -> None:
        self.whole, self.slower, self.saves, self.spread = 0.050, 1.0, 1.0, 0.0
        self.asked = self.races = 0

    def about(self) -> dict[str, Any]:
        return {"runtime": "a clock of tests"}

    def time(self, candidates: Mapping[str, nn.Module], x: Tensor) -> dict[str, Timing]:
        assert len(x) == 1
        self.asked += 1
        sizes = {
            name: sum(p.numel() for p in module.parameters()) / 1e6
            for name, module in candidates.items()
        }
        if tuple(x.shape[1:]) == INPUT_SIZE:
            self.races += 1
            most = max(sizes.values())  # of the network as it is
            return {
                name: Timing(self.whole - self.saves * (most - size), self.spread)
                for name, size in sizes.items()
            }
        return {
            name: Timing((0.002 + size) * (1.0 if name == ORIGINAL else self.slower), 0.0)
            for name, size in sizes.items()
        }

    @classmethod
    def installed(cls, cache: Path, monkeypatch: pytest.MonkeyPatch) -> ParameterClock:
        """One that every runtime has, with a cache of its own."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        made = cls()
        install(made, monkeypatch)
        return made


def install(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives plans and curves by time this clock, whatever the runtime."""
    for module in (budgeting, by_time, curves, within_time):
        monkeypatch.setattr(module, "clock_of", lambda _: clock)


def saved_weights(path: Path) -> str:
    """The file with the weights of the network that is planned."""
    torch.save(locate("wrn10_1", **SIZE).load()[0].state_dict(), path)
    return str(path)
