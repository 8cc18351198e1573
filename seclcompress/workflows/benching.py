"""A whole network five ways by the clock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from seclcompress import networks
from seclcompress.bench import LAYOUTS, Measured, variants
from seclcompress.bench import bench as time_variants
from seclcompress.errors import UsageError
from seclcompress.observer import Observer
from seclcompress.plan import Plan, make_plan
from seclcompress.resolve import Located
from seclcompress.rewrite import rewrite_network
from seclcompress.settings.planning import PlanOptions
from seclcompress.timing import describe_machine
from seclcompress.workflows.locating import Network, find
from seclcompress.workflows.planning import Planned, decide, plan_network

_BY_THE_CLOCK = PlanOptions(cost_model="measured")


@dataclass(frozen=True)
class Benched:
    """What a stopwatch said.

    Attributes:
        located: The network.
        machine: Processor, threads, versions.
        batch_size: Images at once.
        measured: By column; a rewrite that changes nothing has none.
        plans: What became of each layer, by memory layout.
    """

    located: Located
    machine: str
    batch_size: int
    measured: Mapping[str, Measured]
    plans: Mapping[str, Plan]


def bench(
    network: Network,
    *,
    options: PlanOptions | None = None,
    plan: Plan | Path | None = None,
    input_size: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    factory: str | None = None,
    batch_size: int = 1,
    threads: int | None = None,
    rounds: int = 9,
    observer: Observer | None = None,
) -> Benched:
    """Times a network five ways on this machine, side by side, in both memory layouts.

    Every variant runs as for inference (`inference.for_inference`). Weights do not matter and are
    fresh.

    Args:
        network: What a person types, a saved folder, or a located network.
        options: What is asked of a plan. With `cost_model="measured"` the clock decides for each
            layout by itself; so it does for a network that is not converted, where there are neither
            options nor plan.
        plan: A plan to take the decisions from, or the file that holds it.
        input_size: (channels, *spatial), images or clips.
        num_classes: Outputs of the classifier.
        factory: The factory to trust when a folder asks for it.
        batch_size: Images at once.
        threads: Of torch, for this call; None for torch's own choice.
        rounds: How often each variant is timed, there and back; at least 2.
        observer: Is told what is measured.

    Raises:
        UsageError: If the network takes neither images nor clips, there are both options and a plan,
            or an option is unknown or out of range.
        NetworkError: If the network is unknown or cannot run at this input size.
        ArtefactError: If the folder cannot be read.
        PlanError: If the plan is not for this network, or a pattern matches no layer.
    """
    observer = observer or Observer()
    located = find(network, input_size=input_size, num_classes=num_classes, factory=factory)
    size = located.input_size
    if len(size) + 1 not in LAYOUTS:
        raise UsageError(
            "bench runs images, channels×height×width, or clips, channels×frames×height×width; got "
            f"{size}."
        )
    with _threads(threads):
        planned = plan_network(
            located,
            options=options,
            plan=plan,
            default=_BY_THE_CLOCK,
            may_be_empty=True,
            batch=batch_size,
            observer=observer,
        )
        plans = _plans(planned, batch_size, observer)
        candidates = variants(*_networks(planned, plans), size)
        with observer.working("Timing all variants in turn …"):
            measured = time_variants(candidates, size, batch=batch_size, rounds=rounds)
        return Benched(located, describe_machine(), batch_size, measured, plans)


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _plans(planned: Planned, batch: int, observer: Observer) -> dict[str, Plan]:
    """The plan for each layout: one for both, unless the clock decides."""
    plain, last = LAYOUTS[len(planned.located.input_size) + 1]
    plans = {plain: planned.plan, last: planned.plan}
    options = planned.options
    if options is not None and options.cost_model == "measured":
        plans[last] = decide(
            planned.skeleton,
            planned.trace,
            options.model_copy(update={"channels_last": True}),
            may_be_empty=True,
            batch=batch,
            observer=observer,
        )
    return plans


def _networks(
    planned: Planned, plans: Mapping[str, Plan]
) -> tuple[nn.Module, nn.Module | None, dict[str, nn.Module]]:
    """The original, the plain separable one, and the structured one for each layout."""

    def original() -> nn.Module:
        located = planned.located
        return networks.build_untrained(located.network, factory_name=located.factory_name, seed=0)

    kept = tuple(layer.name for layer in planned.plan.layers if layer.on_demand)
    baseline = PlanOptions(
        substitution="separable", keep=kept, stem=True, linear=planned.plan.linear, head=True
    )
    plain = make_plan(planned.skeleton, planned.trace, baseline, may_be_empty=True)
    separable = rewrite_network(original(), plain) if plain.rewritten else None
    structured: dict[str, nn.Module] = {}
    if planned.plan.rewritten:
        structured = dict.fromkeys(plans, rewrite_network(original(), planned.plan))
        for layout, plan in plans.items():
            if plan is not planned.plan:
                structured[layout] = rewrite_network(original(), plan)
    return original(), separable, structured
