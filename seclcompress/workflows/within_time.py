"""Plans for milliseconds are held by the clock of the whole network: predicted, timed, planned again."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from seclcompress.budget import Candidate, NotReachableError
from seclcompress.cost import DENSE
from seclcompress.export.clock import clock_of
from seclcompress.measure import faster
from seclcompress.observer import Observer
from seclcompress.plan import ORIGINAL
from seclcompress.settings.budget import Budget, Quantity
from seclcompress.wording import milliseconds
from seclcompress.workflows.by_time import race, tell_unsteady
from seclcompress.workflows.candidates import Listed
from seclcompress.workflows.whole_network import Races

#: How many plans are timed.
TRIES = 5
#: A plan that takes this share of the limit is near enough: a later one would gain little.
NEAR = 0.95
CHOSEN = "chosen"


@dataclass(frozen=True)
class Attempt:
    """A plan that was timed, in seconds an image.

    Attributes:
        asked: A candidate for each layer, as the prediction chose them.
        chosen: The same, or with every layer dense where the whole network is faster so.
        predicted: What it was predicted to take.
        measured: What it takes.
        original: What the network takes as it is, timed in turn with it.
    """

    asked: tuple[Candidate, ...]
    chosen: tuple[Candidate, ...]
    predicted: float
    measured: float
    original: float

    @property
    def penalty(self) -> float:
        """The sum that the program keeps least."""
        return sum(one.penalty for one in self.chosen)

    def __str__(self) -> str:
        predicted, measured, original = map(
            milliseconds, (self.predicted, self.measured, self.original)
        )
        return (
            f"was predicted to take {predicted} ms for an image, and takes {measured} as a whole; the "
            f"network as it is takes {original}"
        )


def hold(
    limit: float,
    choose: Callable[[float], Sequence[Candidate]],
    attempt: Callable[[Sequence[Candidate]], Attempt],
) -> tuple[Attempt | None, list[Attempt]]:
    """Looks for the plan with the least loss that the clock accepts.

    Layers that are timed alone say less or more than what the network saves by them. So the first plan
    is predicted to hold the limit, and each later one aims where the limit lies if the ratio of what was
    saved to what was predicted to be saved stays. An aim beyond what is known to be too slow, or not
    slow enough, is replaced by the middle between the two. Where nothing holds the limit, the plan that
    is predicted to be the fastest is timed before that is believed.

    Args:
        limit: Seconds an image.
        choose: The plan with the least loss that is predicted to take at most so many seconds; the one
            that is predicted to be the fastest where none is.
        attempt: Times a plan.

    Returns:
        The best attempt within the limit, if any, and all attempts in order.
    """
    tried: list[Attempt] = []
    within: Attempt | None = None
    aim, slow_enough, too_slow = limit, -math.inf, math.inf
    while len(tried) < TRIES:
        chosen = choose(aim)
        if _is_tried(chosen, tried):
            break
        last = attempt(chosen)
        tried.append(last)
        if last.measured > limit:
            too_slow = min(too_slow, last.predicted)
        else:
            slow_enough = max(slow_enough, last.predicted)
            if within is None or last.penalty < within.penalty:
                within = last
            if last.measured >= NEAR * limit:
                break
        aim = _next(last, limit)
        if not slow_enough < aim < too_slow:
            aim = (slow_enough + too_slow) / 2
        if not math.isfinite(aim):
            break
    if within is None and not _is_tried(fastest := choose(-math.inf), tried):
        last = attempt(fastest)
        tried.append(last)
        within = last if last.measured <= limit else None
    return within, tried


def _is_tried(chosen: Sequence[Candidate], tried: Sequence[Attempt]) -> bool:
    return any(tuple(chosen) == one.asked for one in tried)


def _next(last: Attempt, limit: float) -> float:
    """Where the limit lies if savings go on as they were predicted to and were measured."""
    saved, promised = last.original - last.measured, last.original - last.predicted
    if saved <= 0 or promised <= 0:
        return math.inf
    return last.original - (last.original - limit) * promised / saved


def check_time(listed: Listed, asked: Budget, runtime: str | None, observer: Observer) -> bool:
    """Checks before anything is fitted that a limit of milliseconds can be held.

    What is predicted to hold it is believed for now. Where nothing is, the plan that is predicted to be
    the fastest is timed: predictions can be too high.

    Returns:
        Whether it is known, and not predicted.

    Raises:
        NotReachableError: If it does not hold the limit.
        ExportError: If the network cannot be timed in the runtime.
    """
    try:
        listed.choose(asked.limits)
    except NotReachableError:
        others = asked.untimed.limits
        with timing_plans(listed, others, runtime, observer) as timed:
            fastest = _told(timed(listed.fastest(others)), observer)
        if fastest.measured > _limit(asked):
            raise _not_reachable(listed, asked, [fastest]) from None
        return True
    return False


def hold_time(listed: Listed, asked: Budget, runtime: str | None, observer: Observer) -> Attempt:
    """The plan for a budget with a limit of milliseconds that the whole network holds; see `hold`.

    Each plan is timed beside the network as it is, and beside itself with every layer dense. That takes
    its place where it is faster by more than chance: layers that are fast alone can be slower together.

    Args:
        listed: The candidates with their times.
        asked: The budget.
        runtime: The runtime's name; None for torch.
        observer: Receives the progress, and what each plan takes.

    Raises:
        NotReachableError: If no plan that was timed holds the limit.
        ExportError: If the network cannot be timed in the runtime.
    """
    others = asked.untimed.limits

    def choose(seconds: float) -> list[Candidate]:
        try:
            return listed.choose({**others, "nanoseconds": int(1e9 * max(seconds, 0.0))})
        except NotReachableError:
            return listed.fastest(others)

    with timing_plans(listed, others, runtime, observer) as timed:
        within, tried = hold(_limit(asked), choose, lambda chosen: _told(timed(chosen), observer))
    if within is None:
        raise _not_reachable(listed, asked, tried)
    return within


@contextlib.contextmanager
def timing_plans(
    listed: Listed, limits: Mapping[Quantity, int], runtime: str | None, observer: Observer
) -> Iterator[Callable[[Sequence[Candidate]], Attempt]]:
    """Yields what times a choice of candidates as a whole network, in turn with the network as it is.

    Args:
        listed: The candidates with their times.
        limits: Limits of other quantities, which a plan with every layer dense must hold as well.
        runtime: The runtime's name; None for torch.
        observer: Receives the progress, and how many times varied too much.
    """
    races = Races(clock_of(runtime), listed.located, batch=1)
    number = itertools.count(1)

    def attempt(chosen: Sequence[Candidate]) -> Attempt:
        told(f"Measuring the whole network as planned ({next(number)})")
        dense = [one.dense or one for one in chosen]
        plans = {ORIGINAL: None, CHOSEN: listed.plan_of(chosen)}
        had = listed.amounts(dense)
        if all(had[q] <= most for q, most in limits.items()):
            plans[DENSE] = listed.plan_of(dense)
        times = race(races, plans)
        turned = DENSE in times and faster(times[DENSE], times[CHOSEN])
        return Attempt(
            tuple(chosen),
            tuple(dense if turned else chosen),
            listed.amounts(chosen)["nanoseconds"] / 1e9,
            times[DENSE if turned else CHOSEN].median,
            times[ORIGINAL].median,
        )

    with observer.working("Measuring …") as told:
        yield attempt
    tell_unsteady(races, observer)


def _told(attempt: Attempt, observer: Observer) -> Attempt:
    dense = "" if attempt.asked == attempt.chosen else ", with every layer dense"
    observer.message(f"A plan {attempt}{dense}.")
    return attempt


def _limit(asked: Budget) -> float:
    assert asked.ms is not None
    return asked.ms / 1e3


def _not_reachable(listed: Listed, asked: Budget, tried: Sequence[Attempt]) -> NotReachableError:
    nearest = min(tried, key=lambda one: one.measured)
    return NotReachableError(
        f"No plan for {listed.located.label} that was timed meets {asked}. The fastest of {len(tried)} "
        f"{nearest}. {NotReachableError.ADVICE}",
        nearest.chosen,
    )
