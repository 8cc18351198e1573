"""Deciding the fate of every convolution from a trace."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from seclcompress import substitutions
from seclcompress.cost import LayerCost, convolution_mult_adds
from seclcompress.errors import PlanError
from seclcompress.plan.model import LayerPlan, Plan, PlanOptions
from seclcompress.substitutions import Substitution, SubstitutionConfig
from seclcompress.substitutions.contract import CONVOLUTIONS, Convolution
from seclcompress.trace import Trace


@dataclass(frozen=True)
class Choice:
    """How a rewritten layer is to be executed.

    Attributes:
        execution: `dense` or `fast`.
        seconds: What each took, by execution, where it was measured.
    """

    execution: str
    seconds: dict[str, float] | None = None


#: Decides a layer's execution: convolution, family, its options, output sizes.
Chooser = Callable[
    [Convolution, Substitution, SubstitutionConfig, Sequence[tuple[int, ...]]], Choice
]


def fewest_mult_adds(
    conv: Convolution,
    substitution: Substitution,
    config: SubstitutionConfig,
    sizes: Sequence[tuple[int, ...]],
) -> Choice:
    """The paper's cost model: whichever has fewer Mult-Adds, dense where they are equal."""
    return Choice(_total(substitution, conv, config, sizes).cheapest)


def convolutions(network: nn.Module) -> dict[str, nn.Module]:
    """Every convolution of a network by name, subclasses and grouped ones included."""
    kinds = tuple(CONVOLUTIONS.values())
    return {name: module for name, module in network.named_modules() if isinstance(module, kinds)}


def make_plan(
    network: nn.Module,
    trace: Trace,
    options: PlanOptions,
    choose: Chooser = fewest_mult_adds,
    *,
    may_be_empty: bool = False,
) -> Plan:
    """Decides the fate of every convolution.

    Args:
        network: The network that was traced.
        trace: Its trace.
        options: What was asked.
        choose: What decides between dense and fast; it should be what `options.cost_model` names.
        may_be_empty: Whether a plan that rewrites no convolution is an answer, not an error.

    Raises:
        PlanError: If the network has no convolution, a pattern matches none, or none would change.
        UsageError: If the substitution or one of its options is unknown.
    """
    substitution = substitutions.get(options.substitution)
    config = substitution.config(options.config)
    found = convolutions(network)
    if not found:
        raise PlanError("The network has no convolution, so there is nothing to rewrite.")
    for flag, patterns in (("--keep", options.keep), ("--only", options.only)):
        for pattern in patterns:
            _check_pattern(flag, pattern, list(found))
    order = running_order(found, trace)
    tied = tied_convolutions(network)
    layers = []
    for index, name in enumerate(order):
        module, sizes = found[name], trace.output_sizes(name)
        asked = _reason_to_keep(name, module, sizes, is_stem=index == 0, options=options)
        reason = asked or tied.get(name) or substitution.refuse(module, config)
        choice = None if reason else (options.substitution, config)
        layer = layer_plan(
            name, module, sizes, choice, reason, on_demand=asked is not None, tied=name in tied
        )
        if choice and layer.cost.parameters >= layer.original.parameters:
            reason = (
                f"not worth it: {layer.cost.parameters:,} parameters instead of "
                f"{layer.original.parameters:,}"
            )
            layer = layer_plan(name, module, sizes, None, reason)
        elif choice:
            assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
            chosen = choose(module, substitution, config, sizes)
            layer = layer_plan(name, module, sizes, choice, None, chosen)
        layers.append(layer)
    plan = Plan(input_size=trace.input_size, cost_model=options.cost_model, layers=layers)
    if not plan.rewritten and not may_be_empty:
        raise PlanError(nothing_to_do(plan))
    return plan


def tied_convolutions(network: nn.Module) -> dict[str, str]:
    """Why convolutions that share a parameter with another module are kept: a stack cannot."""
    users: dict[int, list[str]] = {}
    for name, module in network.named_modules():
        for parameter in module.parameters(recurse=False):
            users.setdefault(id(parameter), []).append(name)
    found = convolutions(network)
    reasons = {}
    for names in users.values():
        for name in names:
            others = [other for other in names if other != name]
            if others and name in found:
                reasons[name] = f"its weights are shared with {', '.join(others[:2])}"
    return reasons


def running_order(found: dict[str, nn.Module], trace: Trace) -> list[str]:
    """Names in the order of their first call; those that did not run come last."""
    ran = [call.name for call in trace.calls if call.name in found]
    return list(dict.fromkeys([*ran, *found]))


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern (`*`, `?`, `[…]`) means this layer, or a module that it lies in."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def _check_pattern(flag: str, pattern: str, names: Sequence[str]) -> None:
    if any(matches(pattern, name) for name in names):
        return
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5) or list(names[:3])
    raise PlanError(
        f"{flag} {pattern!r} matches none of the {len(names)} convolutions. "
        f"There are, for instance: {', '.join(near)}."
    )


def _reason_to_keep(
    name: str,
    module: nn.Module,
    sizes: list[tuple[int, ...]],
    *,
    is_stem: bool,
    options: PlanOptions,
) -> str | None:
    """Why a layer stays, before the substitution is asked."""
    for pattern in options.keep:
        if matches(pattern, name):
            return f"kept by --keep {pattern}"
    if options.only and not any(matches(pattern, name) for pattern in options.only):
        return "not named by --only"
    if not sizes:
        return "it does not run in eval mode, so it has no size to plan for"
    if is_stem and not options.stem:
        return "the stem (the first convolution); --stem rewrites it too"
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    narrow = min(module.in_channels, module.out_channels)
    if 0 < narrow < options.min_channels:  # without channels every family refuses it
        return f"it has {narrow} channels, fewer than --min-channels {options.min_channels}"
    return None


def layer_plan(
    name: str,
    module: nn.Module,
    sizes: list[tuple[int, ...]],
    choice: tuple[str, SubstitutionConfig] | None,
    reason: str | None,
    chosen: Choice | None = None,
    *,
    on_demand: bool = False,
    tied: bool = False,
) -> LayerPlan:
    """One layer's plan with its figures.

    Args:
        name: Where it is.
        module: The convolution.
        sizes: Spatial output sizes, one an image and call.
        choice: What it is rewritten as; None to keep it.
        reason: Why it is kept.
        chosen: Its execution; None for the one with fewer Mult-Adds.
        on_demand: Whether it is kept because of what was asked.
        tied: Whether it is kept, by every family, because another module shares its weights.
    """
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    original = _original_cost(module, sizes)
    plan = LayerPlan(
        name=name,
        layer=describe(module),
        action="keep",
        reason=reason or "",
        on_demand=on_demand,
        output_sizes=sizes,
        original=original,
        separable=original if on_demand or tied else _separable_cost(module, sizes, original),
        cost=original,
    )
    if choice is None:
        return plan
    substitution, config = substitutions.get(choice[0]), choice[1]
    plan.action = "rewrite"
    plan.substitution = choice[0]
    plan.config = config.model_dump(mode="json")
    plan.length = substitution.length(module)
    plan.cost = _total(substitution, module, config, sizes)
    chosen = chosen or Choice(plan.cost.cheapest)
    plan.execution, plan.seconds = chosen.execution, chosen.seconds  # type: ignore[assignment]
    plan.reason = _reason_to_rewrite(plan, module)
    return plan


def _separable_cost(
    module: Convolution, sizes: Sequence[tuple[int, ...]], original: LayerCost
) -> LayerCost:
    """What the baseline makes of a layer, by its own lights: it too keeps what it cannot shrink."""
    baseline = substitutions.get("separable")
    config = baseline.config({})
    if not sizes or baseline.refuse(module, config) is not None:
        return original
    cost = _total(baseline, module, config, sizes)
    return cost if cost.parameters < original.parameters else original


def _reason_to_rewrite(plan: LayerPlan, module: Convolution) -> str:
    saved = 100 * (1 - plan.cost.parameters / plan.original.parameters)
    words = f"saves {saved:.1f} % of its parameters"
    if saved < 0:
        words = f"asked for, though it adds {-saved:.1f} % to its parameters"
    widest = max(module.in_channels, module.out_channels)
    if plan.length is not None and plan.length != widest:
        words += f"; N is {plan.length}, as {widest} has a large prime factor"
    if plan.execution != plan.cost.cheapest:
        words += f"; {plan.execution}, though {plan.cost.cheapest} has fewer Mult-Adds"
    return words


def _total(
    substitution: Substitution,
    module: Convolution,
    config: SubstitutionConfig,
    sizes: Sequence[tuple[int, ...]],
) -> LayerCost:
    costs = [substitution.cost(module, config, size) for size in sizes]
    return LayerCost(
        costs[0].parameters, sum(cost.dense for cost in costs), sum(cost.fast for cost in costs)
    )


def _original_cost(module: Convolution, sizes: Sequence[tuple[int, ...]]) -> LayerCost:
    parameters = sum(parameter.numel() for parameter in module.parameters())
    mult_adds = sum(
        convolution_mult_adds(
            module.in_channels, module.out_channels, module.kernel_size, module.groups, size
        )
        for size in sizes
    )
    return LayerCost(parameters, mult_adds, mult_adds)


def nothing_to_do(plan: Plan) -> str:
    """Why a plan rewrites nothing, in words."""
    reasons: dict[str, list[str]] = {}
    for layer in plan.layers:
        reasons.setdefault(layer.reason, []).append(layer.name)
    listed = "; ".join(
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
        for reason, names in list(reasons.items())[:4]
    )
    return f"The plan rewrites none of the {len(plan.layers)} convolutions. {listed}."


def describe(module: nn.Module) -> str:
    """A layer's type and geometry in torch's own words."""
    return f"{type(module).__name__}({module.extra_repr()})"
