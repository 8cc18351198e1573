"""What every benchmark prints of itself: the machine, the threads, and a fair way to time."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch


def describe() -> str:
    """One line: processor, threads, versions."""
    return (
        f"{torch.backends.cpu.get_cpu_capability()} {platform.machine()}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def alternate(
    candidates: Mapping[str, Callable[[], object]], rounds: int = 9
) -> dict[str, tuple[float, float]]:
    """Times candidates warm and in turn, so that a noisy neighbour disturbs all of them.

    Returns:
        Median and interquartile range in seconds, by name.
    """
    for run in candidates.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    result = {}
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4)
        result[name] = (median, high - low)
    return result
