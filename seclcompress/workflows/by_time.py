"""Times what a budget in milliseconds is about: the network as it is, and each layer's candidates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from seclcompress import kernel
from seclcompress.budget.measured import Job
from seclcompress.budget.times import Times, time_candidates
from seclcompress.export.clock import clock_of
from seclcompress.export.plain import example
from seclcompress.files import Cache
from seclcompress.measure import Clock, Stopwatch, default_cache
from seclcompress.observer import Observer
from seclcompress.resolve import Located
from seclcompress.settings.planning import TORCH
from seclcompress.wording import milliseconds
from seclcompress.workflows.whole_network import (
    may_be_remembered,
    ready_to_time,
    what_times_depend_on,
)

#: The candidate's name for the clock.
WHOLE = "network"


def measure_times(
    located: Located, jobs: Sequence[Job], runtime: str | None, observer: Observer
) -> Times:
    """Times a network as it is, and its layers' candidates beside them, one image at a time.

    Args:
        located: The network; its weights do not matter to times, and are random.
        jobs: Its layers, and what each may become.
        runtime: The runtime's name; None for torch.
        observer: Receives the progress, and what was known already.

    Raises:
        UsageError: If the runtime is unknown, or its packages are not installed.
        ExportError: If the network or a layer cannot be timed in the runtime.
    """
    clock = clock_of(runtime)
    with observer.working("Measuring …") as told:
        told("Measuring the whole network")
        whole = _whole(located, clock, default_cache().with_name("network_timings.json"))
        stopwatch = Stopwatch(
            default_cache(),
            clock=clock,
            originals=True,
            on_measure=lambda layer: told(f"Measuring {layer}"),
        )
        times = time_candidates(jobs, stopwatch, whole)
    observer.message(
        f"Measured {stopwatch.measured} layer shapes in {clock.runtime}; the others were known "
        f"({default_cache()}). On this machine: "
        f"{kernel.description() if clock.runtime == TORCH else f'threads: {torch.get_num_threads()}'}."
    )
    if stopwatch.unsteady:
        observer.message(
            f"The times of {stopwatch.unsteady} layer shapes varied by more than half, as they do where "
            "other work runs meanwhile. They are not remembered; plan again on a quiet machine."
        )
    alone = sum(times.layers.values()) / 1e9
    observer.message(
        f"{located.label} takes {milliseconds(whole)} ms for an image in {clock.runtime}; the layers "
        f"that may change take {milliseconds(alone)} ms, each timed alone."
    )
    return times


def _whole(located: Located, clock: Clock, path: Path) -> float:
    """Seconds of the network as it is for one image, kept in a file unless they varied."""
    key = json.dumps(what_times_depend_on(located, clock), sort_keys=True)
    kept: Cache[float] = Cache(path, _sound, "Timings")
    same = may_be_remembered(located)
    if key in kept.known and same:
        return kept.known[key]
    ready = ready_to_time(located, clock)
    timing = clock.time({WHOLE: ready}, example(ready, located.input_size, 1))[WHOLE]
    kept.known[key] = timing.median
    if not timing.is_unsteady and same:
        kept.keep(key)
    return timing.median


def _sound(value: object) -> bool:
    return isinstance(value, float) and 0 < value < 1e6
