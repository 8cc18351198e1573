"""Skeleton, trace and plan of a network: the first part of `count`, `convert`, `bench` and `survey`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seclcompress import export, kernel, substitutions
from seclcompress.cost import DENSE
from seclcompress.errors import ExportError, PlanError, UsageError
from seclcompress.export.clock import clock_of
from seclcompress.measure import Stopwatch, default_cache
from seclcompress.observer import Logging, Observer
from seclcompress.plan import ORIGINAL, Plan, fit_plan, make_plan, nothing_to_do, read_plan
from seclcompress.resolve import Located
from seclcompress.settings.planning import TORCH, PlanOptions, check_options, check_plan_alone
from seclcompress.trace import Trace, trace_network
from seclcompress.wording import milliseconds, unsteady
from seclcompress.workflows import in_network
from seclcompress.workflows.locating import Network, find, tell_input_size
from seclcompress.workflows.whole_network import why_not


@dataclass(frozen=True)
class Planned:
    """A network and its plan.

    Attributes:
        located: The located network.
        skeleton: The original network without values (`networks.build` with `skeleton=True`).
        trace: The trace of the skeleton at `located.input_size`.
        plan: The plan, which says what becomes of each layer.
        options: The options of the plan; None if an existing plan was used.
        saved: Whether the plan is the one with which the folder was converted.
    """

    located: Located
    skeleton: nn.Module
    trace: Trace
    plan: Plan
    options: PlanOptions | None = None
    saved: bool = False


def plan_network(
    network: Network,
    *,
    options: PlanOptions | None = None,
    plan: Plan | str | Path | None = None,
    input_size: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    factory: str | None = None,
    download: bool = False,
    default: PlanOptions | None = None,
    may_be_empty: bool = False,
    batch: int = 1,
    observer: Observer | None = None,
) -> Planned:
    """Plans what becomes of a network's layers. It needs no weights and writes nothing.

    If neither options nor a plan are given, a converted folder's own plan is used; for any other network
    a plan is made.

    Args:
        network: A network as on the command line, a saved folder, or a located network.
        options: The planning options.
        plan: A plan to take the decisions from, or its file.
        input_size: (channels, *spatial); by default the folder's, or the network's usual size.
        num_classes: The number of outputs of the classifier.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether a repository of the Hub may be downloaded.
        default: The options to use if neither options nor a plan are given and the folder has no plan;
            None for the defaults of `PlanOptions`.
        may_be_empty: Whether a plan that rewrites nothing is allowed. Otherwise it is an error.
        batch: Images per batch, for executions chosen by timing.
        observer: Receives reports of what is measured.

    Raises:
        UsageError: If both options and a plan are given, or an option is unknown or out of range.
        NetworkError: If the network is unknown, or cannot run at this input size.
        ArtefactError: If the folder cannot be read.
        PlanError: If the plan is for another network, a pattern matches no layer, or nothing would
            change.
    """
    if plan is not None and options is not None:
        check_plan_alone(sorted(options.model_fields_set))
    if options is not None:
        check_asked(options)
    located = find(
        network,
        input_size=input_size,
        num_classes=num_classes,
        factory=factory,
        download=download,
    )
    tell_input_size(located, observer or Logging())
    source, given = "The plan", plan
    if isinstance(plan, str | Path):
        source, given = str(plan), read_plan(Path(plan))
    assert given is None or isinstance(given, Plan)
    skeleton = located.skeleton()
    trace = trace_network(skeleton, located.input_size)
    if given is not None:
        return Planned(located, skeleton, trace, fit_plan(given, skeleton, trace, source))
    own = located.config.plan if located.config is not None and options is None else None
    if own is not None:
        own = own.model_copy(update={"input_size": trace.input_size})
        decided = fit_plan(own, skeleton, trace, located.label)
        return Planned(located, skeleton, trace, decided, saved=True)
    asked = options or default or PlanOptions()
    decided = decide(
        skeleton,
        trace,
        asked,
        may_be_empty=may_be_empty,
        batch=batch,
        whole=located,
        observer=observer,
    )
    return Planned(located, skeleton, trace, decided, asked)


def decide(
    skeleton: nn.Module,
    trace: Trace,
    options: PlanOptions,
    *,
    may_be_empty: bool = False,
    batch: int = 1,
    whole: Located | None = None,
    observer: Observer | None = None,
) -> Plan:
    """Makes a plan with the cost model that the options name.

    Args:
        skeleton: The network that was traced.
        trace: The trace of the network.
        options: The planning options.
        may_be_empty: Whether a plan that rewrites nothing is allowed. Otherwise it is an error.
        batch: Images per batch, for executions chosen by timing.
        whole: The network, whose clock confirms what each layer's own has chosen, where the options ask
            for that; None to leave it out.
        observer: Receives reports of what is measured.

    Raises:
        PlanError: If a pattern matches no layer, or nothing would change.
        UsageError: If the runtime is unknown, or its packages are not installed.
        ExportError: If a layer cannot be timed in the runtime.
    """
    if options.cost_model == "paper":
        return make_plan(skeleton, trace, options, may_be_empty=may_be_empty)
    observer = observer or Logging()
    clock = clock_of(options.runtime, channels_last=options.channels_last)
    with observer.working("Measuring …") as told:
        stopwatch = Stopwatch(
            default_cache(),
            batch=batch,
            clock=clock,
            originals=options.times_originals,
            on_measure=lambda layer: told(f"Measuring {layer}"),
        )
        make_plan(skeleton, trace, options, stopwatch.foresee, may_be_empty=may_be_empty)

        def planning(ways: in_network.Ways) -> Plan:
            choose = in_network.given_ways(stopwatch, ways, options.objective)
            return make_plan(skeleton, trace, options, choose, may_be_empty=True)

        plan, found, failed = planning({}), None, ""
        if whole is not None and options.whole_network and options.times_originals:
            try:
                found = in_network.confirm(plan, planning, clock, whole, batch, told)
            except ExportError as error:
                failed = why_not(error)
        if found is not None:
            plan = found.plan
    where = " in channels_last" if options.channels_last else ""
    machine = kernel.description()
    if clock.runtime != TORCH:
        where = f" in {export.of_runtime(clock.runtime).version()}"
        machine = f"threads: {torch.get_num_threads()}"
    observer.message(
        f"Measured {stopwatch.measured} layer shapes{where}; the others were known ({default_cache()}). "
        f"On this machine: {machine}."
    )
    if stopwatch.unsteady:
        observer.message(unsteady(stopwatch.unsteady, "layer shape"))
    if failed:
        observer.message(
            f"The plan goes by each layer's own clock: the whole network cannot be timed{where}: "
            f"{failed}"
        )
    if found is not None:
        observer.message(_confirmed(found, where))
    if not plan.rewritten and not may_be_empty:
        raise PlanError(nothing_to_do(plan))
    return plan


def _confirmed(found: in_network.Confirmed, where: str) -> str:
    times = {name: milliseconds(seconds) for name, seconds in found.seconds.items()}
    words = (
        f"The whole network takes{where} {times[ORIGINAL]} ms as it is, {times[DENSE]} all "
        f"dense, {times[in_network.ALONE]} with what each layer's own clock chose, and "
        f"{times[in_network.CHOSEN]} as planned ({found.undone} of {found.choices} such choices undone)."
    )
    if found.slower:
        words += " So nothing that was tried is faster than the network as it is."
    if found.unsteady:
        words += " " + unsteady(found.unsteady, "comparison")
    return words


def check_asked(options: PlanOptions) -> None:
    """Checks options before a network is built: their combination, and the options of each family.

    Raises:
        UsageError: If options contradict each other, a family is unknown, a family's option is unknown
            or out of range, a runtime is unknown, or its packages are not installed.
    """
    check_options(options)
    clock_of(options.runtime)
    _check_family(options.substitution, options.config, "")
    for each in options.assign:
        _check_family(each.substitution, each.config, f"{each.pattern}={each.substitution}: ")


def _check_family(name: str, config: Mapping[str, Any], where: str) -> None:
    try:
        substitutions.configured(name, config)
    except UsageError as error:
        raise UsageError(f"{where}{error}") from error
