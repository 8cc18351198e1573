"""Timing that is fair on a noisy machine: warm, in turn, medians and spread."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Timing:
    """How long something takes.

    Attributes:
        median: Seconds.
        spread: Interquartile range in seconds.
    """

    median: float
    spread: float


def alternate(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 9,
    min_seconds: float = 0.0,
    warm_ups: int = 1,
) -> dict[str, Timing]:
    """Times candidates warm and in turn, so that a noisy neighbour disturbs all of them alike.

    A round goes there and back, and counts as one: what comes before a candidate decides what it
    finds in the caches, and where its memory lies. (So the first and the last come after themselves
    once in a round; others never.)

    Args:
        candidates: Functions by name.
        rounds: How often each is timed, there and back; at least 2.
        min_seconds: A candidate that is quicker is repeated, each way, until it takes this long.
        warm_ups: Untimed calls of each before the first round.

    Returns:
        Seconds a call, by name.
    """
    _settle_allocator()
    repeats = {}
    for name, run in candidates.items():
        for _ in range(warm_ups):
            run()
        repeats[name] = max(1, round(min_seconds / max(_seconds(run, 1), 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in candidates}
    there = list(candidates)
    for _ in range(rounds):
        total = dict.fromkeys(there, 0.0)
        for name in (*there, *reversed(there)):
            total[name] += _seconds(candidates[name], repeats[name]) / repeats[name]
        for name in there:
            times[name].append(total[name] / 2)
    timings = {}
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        timings[name] = Timing(median, high - low)
    return timings


def _settle_allocator() -> None:
    """Brings the C library's allocator to where a process is that has run a network.

    glibc gives large blocks back to the system until it has seen a larger one freed. The faults of
    mapping them anew would be timed: in a fresh process a convolution with an output of 3 MB seemed to
    take four times as long as in a network (a torchvision network that has run three times has next to
    no faults). 30 MB stays below the 32 MB to which glibc follows.
    """
    torch.empty(30 << 20, dtype=torch.uint8)


def _seconds(run: Callable[[], object], repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        run()
    return time.perf_counter() - began


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe_machine() -> str:
    """One line for the head of every table of seconds: processor, threads, versions."""
    return (
        f"{processor()} ({torch.backends.cpu.get_cpu_capability()}), "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )
