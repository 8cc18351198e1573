"""Times what a budget in milliseconds is about: the network as it is, and each layer's candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from seclcompress import kernel
from seclcompress.budget.measured import Job
from seclcompress.budget.times import Times, time_candidates
from seclcompress.errors import ExportError
from seclcompress.export.clock import clock_of
from seclcompress.measure import Stopwatch, default_cache
from seclcompress.observer import Observer
from seclcompress.plan import ORIGINAL, Plan
from seclcompress.resolve import Located
from seclcompress.settings.planning import TORCH
from seclcompress.timing import Timing
from seclcompress.wording import milliseconds, unsteady
from seclcompress.workflows.whole_network import Races, why_not


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
        races = Races(clock, located, batch=1)
        whole = race(races, {ORIGINAL: None})[ORIGINAL].median
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
        observer.message(unsteady(stopwatch.unsteady, "layer shape"))
    tell_unsteady(races, observer)
    alone = sum(times.layers.values()) / 1e9
    observer.message(
        f"{located.label} takes {milliseconds(whole)} ms for an image in {clock.runtime}; the layers "
        f"that may change take {milliseconds(alone)} ms, each timed alone."
    )
    return times


def race(races: Races, plans: Mapping[str, Plan | None]) -> dict[str, Timing]:
    """Times plans of a network, and as None the network as it is, in turn.

    Raises:
        ExportError: If the network cannot be timed in the runtime.
    """
    try:
        return races.run(plans)
    except ExportError as error:
        raise ExportError(
            f"{races.located.label} cannot be timed in {races.clock.runtime}, which a limit of "
            f"milliseconds needs: {why_not(error)} Limit something else, or name another --runtime."
        ) from error


def tell_unsteady(races: Races, observer: Observer) -> None:
    """Says how many of the races varied too much to be remembered."""
    if races.unsteady:
        observer.message(unsteady(races.unsteady, "whole-network comparison"))
