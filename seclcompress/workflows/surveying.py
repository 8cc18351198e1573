"""Surveys the effect of a rewrite on all of torchvision's networks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from seclcompress.count import count_network
from seclcompress.errors import NetworkError, SeclcompressError
from seclcompress.networks import torchvision_zoo
from seclcompress.observer import Logging, Observer
from seclcompress.settings.planning import PlanOptions
from seclcompress.survey import Surveyed, kept_because, names, slower_layers
from seclcompress.workflows.planning import check_asked, plan_network


def survey(
    pattern: str = "*",
    *,
    options: PlanOptions | None = None,
    observer: Observer | None = None,
) -> Iterator[Surveyed]:
    """Traces, plans and counts torchvision's networks at their usual input sizes, one after the other.

    The networks are skeletons: figures come from shapes, and no values are computed. Only where
    executions are chosen by timing are single layers run.

    Args:
        pattern: A pattern of network names, such as `resnet*`.
        options: The planning options for every network.
        observer: Is told how many networks are done, and what is measured.

    Returns:
        An iterator over the networks' figures. For a network that is refused it has the reason.

    Raises:
        NetworkError: If no network matches.
        UsageError: If an option is unknown or out of range.
    """
    options = options or PlanOptions()
    if options.times_originals:  # of each network that would take minutes
        options = options.model_copy(update={"whole_network": False})
    check_asked(options)  # otherwise every network would be refused for the same reason
    found = [name for name in names() if fnmatchcase(name, pattern)]
    if not found:
        raise NetworkError(f"None of torchvision's {len(names())} networks matches '{pattern}'.")
    return _each(found, options, observer or Logging())


def _each(networks: Sequence[str], options: PlanOptions, observer: Observer) -> Iterator[Surveyed]:
    if options.cost_model == "measured":  # the measuring of each network shows its own progress
        for name in networks:
            yield _surveyed(name, options, observer)
        return
    with observer.counting("Surveying", len(networks)) as tell:
        for done, name in enumerate(networks):
            tell(done, len(networks))
            yield _surveyed(name, options, observer)


def _surveyed(name: str, options: PlanOptions, observer: Observer) -> Surveyed:
    start = time.perf_counter()
    try:
        planned = plan_network(name, options=options, may_be_empty=True, observer=observer)
        counted = count_network(planned.skeleton, planned.trace, planned.plan)
    except SeclcompressError as error:
        return Surveyed(
            name,
            time.perf_counter() - start,
            refused=str(error),
            expected=name in torchvision_zoo.quantised_names(),
        )
    plan = planned.plan
    return Surveyed(
        name,
        time.perf_counter() - start,
        len(plan.rewritten),
        kept_because(plan),
        counted,
        slower=slower_layers(plan),
    )
