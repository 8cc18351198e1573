"""Times a whole network in five variants."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from seclcompress import kernel, networks
from seclcompress.bench import LAYOUTS, Measured, variants
from seclcompress.bench import bench as time_variants
from seclcompress.errors import UsageError
from seclcompress.export.plain import example
from seclcompress.export.race import Runtimes, formats_of, race
from seclcompress.inference import for_inference
from seclcompress.observer import Logging, Observer
from seclcompress.plan import Plan, make_plan
from seclcompress.resolve import Located
from seclcompress.rewrite import rewrite_network
from seclcompress.settings.planning import TORCH, PlanOptions
from seclcompress.timing import Timing, alternate, describe_machine
from seclcompress.workflows.exported import ExportedFile
from seclcompress.workflows.locating import Network, find
from seclcompress.workflows.planning import Planned, decide, plan_network

_BY_THE_CLOCK = PlanOptions(cost_model="measured")


@dataclass(frozen=True)
class Benched:
    """The timings of a network.

    Attributes:
        located: The network.
        machine: Processor, threads, versions.
        batch_size: Images per batch.
        measured: The measurements by column. Columns of a rewrite that changes nothing are missing.
        plans: The plans by memory layout.
        runtimes: The timings in several runtimes, if they were asked for; `measured` is then empty.
    """

    located: Located
    machine: str
    batch_size: int
    measured: Mapping[str, Measured]
    plans: Mapping[str, Plan]
    runtimes: Runtimes | None = None


def bench(
    network: Network,
    *,
    options: PlanOptions | None = None,
    plan: Plan | str | Path | None = None,
    input_size: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    factory: str | None = None,
    download: bool = False,
    batch_size: int = 1,
    threads: int | None = None,
    rounds: int = 9,
    runtimes: Sequence[str] = (),
    observer: Observer | None = None,
) -> Benched:
    """Times five variants of a network on this machine, in turn, in both memory layouts.

    Every variant is prepared for inference (`inference.for_inference`). Weights do not affect the
    timings and are random.

    Args:
        network: A network as on the command line, a saved folder, or a located network.
        options: The planning options. With `cost_model="measured"`, executions are chosen by timing,
            separately for each layout. This is also the default for a network that is not converted,
            if neither options nor a plan are given. With `objective="time"` and one runtime, they are
            chosen by its clock.
        plan: A plan to take the decisions from, or its file.
        input_size: (channels, *spatial), for images or clips; by default the folder's, or the network's
            usual size.
        num_classes: The number of outputs of the classifier.
        factory: The factory to trust if a saved folder was built by it: its code will run.
        download: Whether a repository of the Hub may be downloaded.
        batch_size: Images per batch.
        threads: The number of torch's threads during this call; None for torch's own choice.
        rounds: Rounds of timing, each through all variants in order and in reverse order; at least 2.
        runtimes: Names of runtimes (`torch`, `onnxruntime`, `openvino`, …). If there are some, the
            variants are timed in each of them instead, in turn.
        observer: Receives reports of what is measured.

    Raises:
        UsageError: If the network takes neither images nor clips, both options and a plan are given, or
            an option is unknown or out of range.
        NetworkError: If the network is unknown or cannot run at this input size.
        ArtefactError: If the folder cannot be read.
        PlanError: If the plan is for another network, or a pattern matches no layer.
    """
    observer = observer or Logging()
    numbers = (("batch_size", batch_size, 1), ("threads", threads, 1), ("rounds", rounds, 2))
    for name, number, least in numbers:
        if number is not None and number < least:
            raise UsageError(f"bench: {name} is {number}; it must be at least {least}.")
    formats_of(runtimes)  # what is not there is said before the work
    options = _by_one_clock(options, runtimes)
    located = find(
        network,
        input_size=input_size,
        num_classes=num_classes,
        factory=factory,
        download=download,
    )
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
        if runtimes:
            return _in_runtimes(planned, plans, runtimes, batch_size, rounds, observer)
        candidates = variants(*_networks(planned, plans), size)
        with observer.working("Timing all variants in turn …"):
            measured = time_variants(candidates, size, batch=batch_size, rounds=rounds)
        machine = f"{describe_machine()}, {kernel.description()}"
        return Benched(located, machine, batch_size, measured, plans)


def _by_one_clock(options: PlanOptions | None, runtimes: Sequence[str]) -> PlanOptions | None:
    """Options that plan for time in the runtime in which the network will be timed."""
    if options is None or options.objective != "time" or options.runtime or not runtimes:
        return options
    if len(runtimes) > 1:
        raise UsageError(
            f"bench: a plan for time goes by one clock, and {', '.join(runtimes)} are "
            f"{len(runtimes)} runtimes: name one, and bench them one after the other."
        )
    return options.model_copy(update={"runtime": runtimes[0]})


def bench_file(
    file: ExportedFile, *, batch_size: int = 1, threads: int | None = None, rounds: int = 9
) -> tuple[Timing, str]:
    """Times an exported file in its runtime, on random images.

    Args:
        file: The file (`workflows.exported.find_file`).
        batch_size: Images per batch; a file for one image runs them one after another.
        threads: The number of threads; None for as many as torch has.
        rounds: Rounds of timing; at least 2.

    Returns:
        Seconds per batch, and the machine in words.
    """
    with _threads(threads):
        network = file.load()
        images = example(network, file.input_size, batch_size)
        timing = alternate({"file": lambda: network(images)}, rounds=rounds, warm_ups=2)["file"]
        return timing, describe_machine()


def _in_runtimes(
    planned: Planned,
    plans: Mapping[str, Plan],
    runtimes: Sequence[str],
    batch: int,
    rounds: int,
    observer: Observer,
) -> Benched:
    """Times the original, the plain separable and the dense network in every runtime.

    Those that can run layers fast also run the network as it is planned, where that is not dense.
    """
    size = planned.located.input_size
    original, separable, structured = _networks(planned, plans)
    networks = {"original": for_inference(original, size)}
    if separable is not None:
        networks["separable"] = for_inference(separable, size, fuse=False)
    if structured:
        one = next(iter(structured.values()))
        networks["dense"] = for_inference(one, size, "dense", fuse=False)
        if any(layer.execution != "dense" for layer in planned.plan.rewritten):
            networks["auto"] = for_inference(one, size, fuse=False)
    with observer.working("Exporting …") as tell:
        found = race(networks, runtimes, size, batch=batch, rounds=rounds, tell=tell)
    machine = f"{describe_machine()}, {kernel.description()}"
    return Benched(planned.located, machine, batch, {}, plans, found)


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
    """The plan for each layout; the same for both unless executions are chosen by timing in torch."""
    plain, last = LAYOUTS[len(planned.located.input_size) + 1]
    plans = {plain: planned.plan, last: planned.plan}
    options = planned.options
    by_torch = options is not None and options.runtime in (None, TORCH)
    if options is not None and options.cost_model == "measured" and by_torch:
        plans[last] = decide(
            planned.skeleton,
            planned.trace,
            options.model_copy(update={"channels_last": True}),
            may_be_empty=True,
            batch=batch,
            whole=planned.located,
            observer=observer,
        )
    return plans


def _networks(
    planned: Planned, plans: Mapping[str, Plan]
) -> tuple[nn.Module, nn.Module | None, dict[str, nn.Module]]:
    """Builds the original network, the plain separable one, and the structured one for each layout."""

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
