"""From planning options, plan files and saved folders to a plan, for every command that needs one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from seclcompress.cli.console import err_console
from seclcompress.cli.options import CostModel
from seclcompress.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from seclcompress.plan import Plan, PlanOptions
    from seclcompress.resolve import Located
    from seclcompress.trace import Trace

_PLANNING = (
    "substitution depth option keep only stem linear head min_channels cost_model channels_last"
).split()


def parse_config(options: list[str] | None, depth: int | None) -> dict[str, Any]:
    """Reads `--option KEY=VALUE` and `--depth`.

    Raises:
        UsageError: If an option has no value or is given twice.
    """
    config: dict[str, Any] = {}
    pairs = [*(options or []), *([] if depth is None else [f"depth={depth}"])]
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--option {pair}: it takes KEY=VALUE, as in depth=8.")
        if key in config:
            raise UsageError(f"The option {key} is given twice: {config[key]} and {value}.")
        config[key] = value
    return config


def plan_options(
    substitution: str,
    depth: int | None,
    option: list[str] | None,
    keep: list[str] | None,
    only: list[str] | None,
    stem: bool,
    linear: bool,
    head: bool,
    min_channels: int,
    cost_model: CostModel,
    channels_last: bool = False,
) -> PlanOptions:
    """The planning options of a command line, checked.

    Raises:
        UsageError: If one is unknown, out of range, or makes no sense without another.
    """
    if head and not linear:
        raise UsageError("--head rewrites the last Linear layer; say --linear as well.")
    if channels_last and cost_model != CostModel.measured:
        raise UsageError("--channels-last is about what is measured: add --cost-model measured.")
    from seclcompress import substitutions
    from seclcompress.plan import PlanOptions

    config = parse_config(option, depth)
    substitutions.get(substitution).config(config)
    return PlanOptions(
        substitution=substitution,
        config=config,
        keep=tuple(keep or ()),
        only=tuple(only or ()),
        stem=stem,
        linear=linear,
        head=head,
        min_channels=min_channels,
        cost_model=cost_model.value,
    )


def given_planning_options(context: typer.Context) -> list[str]:
    """The planning options that stand on this command line."""
    sources = {name: context.get_parameter_source(name) for name in _PLANNING}
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    return ["--" + name.replace("_", "-") for name in given]


def check_plan_alone(context: typer.Context, plan: Path | None) -> None:
    """A plan has decided what the planning options decide.

    Raises:
        UsageError: If some are given beside `--plan`.
    """
    given = given_planning_options(context)
    if plan is not None and given:
        raise UsageError(
            f"--plan has decided already what {', '.join(given)} would. Edit the plan."
        )


def say_without_kernel(plan: Plan) -> None:
    """Says, where a plan has fast layers, that they will be slower than they could be."""
    from seclcompress import kernel

    if not kernel.available() and any(layer.execution == "fast" for layer in plan.rewritten):
        err_console.print(
            "The fused kernel is not there (no C++ compiler when seclcompress was installed): fast "
            "layers run by torch.fft, which computes the same, slower."
        )


def saved_plan(context: typer.Context, source: Located, plan_file: Path | None) -> Plan | None:
    """A converted folder's own plan, unless the command line asks for another."""
    saved = source.config.plan if source.config else None
    return None if plan_file is not None or given_planning_options(context) else saved


def planned(
    source: Located,
    options: PlanOptions,
    plan_file: Path | None,
    *,
    saved: Plan | None = None,
    may_be_empty: bool = False,
    batch: int = 1,
    channels_last: bool = False,
) -> tuple[nn.Module, Trace, Plan]:
    """The original network's skeleton, its trace, and its plan: saved, read, or made now."""
    from seclcompress.plan import fit_plan, make_plan, read_plan
    from seclcompress.trace import trace_network

    read = None if plan_file is None else read_plan(plan_file)
    network = source.skeleton()
    traced = trace_network(network, source.input_size)
    if saved is not None:
        saved = saved.model_copy(update={"input_size": traced.input_size})
        return network, traced, fit_plan(saved, network, traced, source.label)
    if read is not None:
        return network, traced, fit_plan(read, network, traced, str(plan_file))
    if options.cost_model == "paper":
        plan = make_plan(network, traced, options, may_be_empty=may_be_empty)
        return network, traced, plan
    plan = measured_plan(
        network,
        traced,
        options,
        may_be_empty=may_be_empty,
        batch=batch,
        channels_last=channels_last,
    )
    return network, traced, plan


def measured_plan(
    network: nn.Module,
    traced: Trace,
    options: PlanOptions,
    *,
    may_be_empty: bool,
    batch: int,
    channels_last: bool,
) -> Plan:
    """A plan by the clock, for so many images at once in one memory layout."""
    from seclcompress.measure import Stopwatch, default_cache
    from seclcompress.plan import make_plan

    with err_console.status("Measuring …") as status:
        stopwatch = Stopwatch(
            default_cache(),
            batch=batch,
            channels_last=channels_last,
            on_measure=lambda layer: status.update(f"Measuring {layer}"),
        )
        plan = make_plan(network, traced, options, stopwatch.choose, may_be_empty=may_be_empty)
    where = " in channels_last" if channels_last else ""
    err_console.print(
        f"Measured {stopwatch.measured} layer shapes{where}; the others were known ({default_cache()})."
    )
    return plan
