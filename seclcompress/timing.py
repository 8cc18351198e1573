"""Fair timing on a noisy machine: candidates run warmed up and in turn; medians and spreads are kept."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

#: An interquartile range above this share of the median: other work ran meanwhile. (With two processors
#: shared by four programs, two equal layers were measured at 0.3 and 12.7 ms.)
UNSTEADY = 0.5
#: Seconds for which a runtime's threads may go on spinning behind its last call, waiting for the next
#: one. Each session of ONNX Runtime has its own, which take the processors from whatever runs next.
REST = 0.05


@dataclass(frozen=True)
class Timing:
    """How long something takes.

    Attributes:
        median: The median in seconds.
        spread: The interquartile range in seconds.
    """

    median: float
    spread: float

    @property
    def is_unsteady(self) -> bool:
        """Whether it varied by more than half of the median: other work ran meanwhile."""
        return self.spread > UNSTEADY * self.median


def alternate(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 9,
    min_seconds: float = 0.0,
    warm_ups: int = 1,
    rest: float = 0.0,
) -> dict[str, Timing]:
    """Times candidates warmed up and in turn, so that other load on the machine affects all alike.

    The candidate that runs before another one decides the content of the caches and where memory is
    allocated. So a round runs all candidates in order and then in reverse order, and the mean of the two
    counts as one measurement. (At the turning points the last and the first candidate therefore run
    twice in a row.)

    Args:
        candidates: Functions by name.
        rounds: The number of rounds; at least 2.
        min_seconds: A faster candidate is repeated, in each direction, until it takes about this long.
        warm_ups: Untimed calls of each candidate before the first round.
        rest: Seconds of sleep before a candidate's turn, behind which it gets another untimed call; for
            candidates that have threads of their own, see `REST`.

    Returns:
        The timing of one call, by name.
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
            if rest > 0:
                time.sleep(rest)
                candidates[name]()
            total[name] += _seconds(candidates[name], repeats[name]) / repeats[name]
        for name in there:
            times[name].append(total[name] / 2)
    timings = {}
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        timings[name] = Timing(median, high - low)
    return timings


def _settle_allocator() -> None:
    """Brings the C library's allocator into the state of a process that has already run a network.

    glibc returns large blocks to the system until it has seen a larger block freed; it then raises its
    threshold (M_MMAP_THRESHOLD) to that size, up to 32 MB. Until then every large output is mapped anew,
    and the page faults would be timed: in a new process a convolution with an output of 3 MB seemed to
    take four times as long as in a network. (A torchvision network that has run three times has almost
    no page faults.) So this function allocates and frees 30 MB, just below the limit.
    """
    torch.empty(30 << 20, dtype=torch.uint8)


def _seconds(run: Callable[[], object], repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        run()
    return time.perf_counter() - began


def processor() -> str:
    """The processor's name, or the architecture where the system does not report the name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe_machine() -> str:
    """The line above every table of timings: processor, threads, versions."""
    return (
        f"{processor()} ({torch.backends.cpu.get_cpu_capability()}), "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )
