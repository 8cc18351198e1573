"""Deciding the fate of every layer from a trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from seclcompress import substitutions
from seclcompress.cost import LayerCost
from seclcompress.errors import PlanError
from seclcompress.plan.layers import bound_layers, check_pattern, matches, plannable, running_order
from seclcompress.plan.model import LayerPlan, Plan
from seclcompress.settings.planning import PlanOptions
from seclcompress.substitutions import Substitution, SubstitutionConfig
from seclcompress.substitutions.contract import (
    CONVOLUTION_KINDS,
    LINEAR_KINDS,
    Convolution,
    as_convolution,
)
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


#: How often each spatial output size occurs for one image.
Sizes = Mapping[tuple[int, ...], int]
#: Decides a layer's execution: the convolution that it is, family, its options, output sizes.
Chooser = Callable[[Convolution, Substitution, SubstitutionConfig, Sizes], Choice]


def fewest_mult_adds(
    conv: Convolution, substitution: Substitution, config: SubstitutionConfig, sizes: Sizes
) -> Choice:
    """The paper's cost model: whichever has fewer Mult-Adds, dense where they are equal."""
    return Choice(_total(substitution, conv, config, sizes).cheapest)


def make_plan(
    network: nn.Module,
    trace: Trace,
    options: PlanOptions,
    choose: Chooser = fewest_mult_adds,
    *,
    may_be_empty: bool = False,
) -> Plan:
    """Decides the fate of every convolution, and of every Linear where that is asked for.

    Args:
        network: The network that was traced.
        trace: Its trace.
        options: What was asked.
        choose: What decides between dense and fast; it should be what `options.cost_model` names.
        may_be_empty: Whether a plan that rewrites nothing is an answer, not an error.

    Raises:
        PlanError: If the network has no such layer, a pattern matches none, or none would change.
        UsageError: If the substitution or one of its options is unknown.
    """
    substitution = substitutions.get(options.substitution)
    config = substitution.config(options.config)
    found = plannable(network, linear=options.linear)
    if not found:
        kind = "layer" if options.linear else "convolution"
        raise PlanError(f"The network has no {kind}, so there is nothing to rewrite.")
    for flag, patterns in (("--keep", options.keep), ("--only", options.only)):
        for pattern in patterns:
            check_pattern(flag, pattern, list(found), options)
    order = running_order(found, trace)
    ends = _ends([call.name for call in trace.calls if call.name in found], found, options)
    bound = bound_layers(network, found, trace)
    layers = []
    for name in order:
        module = found[name]
        asked = _reason_to_keep(name, module, trace, ends.get(name), options)
        if not trace.output_sizes(name) and name in bound:
            asked = None  # what binds it also says why it does not run
        reason = asked or bound.get(name) or substitution.refuse(module, config)
        choice = None if reason else (options.substitution, config)
        layer = layer_plan(
            name, module, trace, choice, reason, on_demand=asked is not None, bound=name in bound
        )
        if choice and layer.cost.parameters >= layer.original.parameters:
            reason = (
                f"not worth it: {layer.cost.parameters:,} parameters instead of "
                f"{layer.original.parameters:,}"
            )
            layer = layer_plan(name, module, trace, None, reason)
        elif choice:
            conv = as_convolution(module)
            chosen = choose(conv, substitution, config, trace.output_sizes(name))
            layer = layer_plan(name, module, trace, choice, None, chosen)
        layers.append(layer)
    plan = Plan(
        input_size=trace.input_size,
        cost_model=options.cost_model,
        linear=options.linear,
        layers=layers,
    )
    if not plan.rewritten and not may_be_empty:
        raise PlanError(nothing_to_do(plan))
    return plan


def _ends(
    ran: Sequence[str], found: Mapping[str, nn.Module], options: PlanOptions
) -> dict[str, str]:
    """Why the first convolution and the last Linear among the layers that ran are kept."""
    first = [name for name in ran if isinstance(found[name], CONVOLUTION_KINDS)][:1]
    last = [name for name in ran if isinstance(found[name], nn.Linear)][-1:]
    kept: dict[str, str] = {}
    if not options.stem:
        kept |= dict.fromkeys(first, "the stem (the first convolution); --stem rewrites it too")
    if not options.head:
        kept |= dict.fromkeys(last, "the classifier (the last Linear); --head rewrites it too")
    return kept


def _reason_to_keep(
    name: str, module: nn.Module, trace: Trace, end: str | None, options: PlanOptions
) -> str | None:
    """Why a layer stays, before the substitution is asked; `end` is why as the first or last."""
    for pattern in options.keep:
        if matches(pattern, name):
            return f"kept by --keep {pattern}"
    if options.only and not any(matches(pattern, name) for pattern in options.only):
        return "not named by --only"
    if not isinstance(module, nn.MultiheadAttention) and not trace.output_sizes(name):
        return NOT_RUN
    if end is not None:
        return end
    narrow = min(_channels(module))
    if 0 < narrow < options.min_channels:  # without channels every family refuses it
        return f"it has {narrow} channels, fewer than --min-channels {options.min_channels}"
    return None


NOT_RUN = "it does not run in eval mode, so it has no size to plan for"


def _channels(module: nn.Module) -> tuple[int, ...]:
    """Input and output channels, whatever a layer calls them."""
    names = "in_channels out_channels in_features out_features embed_dim".split()
    return tuple(getattr(module, name) for name in names if hasattr(module, name))


def layer_plan(
    name: str,
    module: nn.Module,
    trace: Trace,
    choice: tuple[str, SubstitutionConfig] | None,
    reason: str | None,
    chosen: Choice | None = None,
    *,
    on_demand: bool = False,
    bound: bool = False,
) -> LayerPlan:
    """One layer's plan with its figures.

    Args:
        name: Where it is.
        module: The layer.
        trace: Where and how often it runs, and for how many Mult-Adds.
        choice: What it is rewritten as; None to keep it.
        reason: Why it is kept.
        chosen: Its execution; None for the one with fewer Mult-Adds.
        on_demand: Whether it is kept because of what was asked.
        bound: Whether it is kept, by every family, because others use its weights.
    """
    sizes = trace.output_sizes(name)
    mult_adds = trace.mult_adds[name]
    original = LayerCost(_parameters(module), mult_adds, mult_adds)
    plan = LayerPlan(
        name=name,
        layer=describe(module),
        action="keep",
        reason=reason or "",
        on_demand=on_demand,
        output_sizes=list(sizes),
        times=list(sizes.values()),
        original=original,
        separable=original if on_demand or bound else _separable_cost(module, sizes, original),
        cost=original,
    )
    if choice is None:
        return plan
    substitution, config = substitutions.get(choice[0]), choice[1]
    conv = as_convolution(module)
    plan.action = "rewrite"
    plan.substitution = choice[0]
    plan.config = config.model_dump(mode="json")
    plan.length = substitution.length(conv)
    plan.cost = _total(substitution, conv, config, sizes)
    chosen = chosen or Choice(plan.cost.cheapest)
    plan.execution, plan.seconds = chosen.execution, chosen.seconds  # type: ignore[assignment]
    plan.reason = _reason_to_rewrite(plan, conv)
    return plan


def _parameters(layer: nn.Module) -> int:
    """A layer's parameters, without those of layers inside it, which have entries of their own."""
    inside = [
        part for part in layer.modules() if part is not layer and isinstance(part, LINEAR_KINDS)
    ]
    theirs = {id(parameter) for part in inside for parameter in part.parameters()}
    return sum(p.numel() for p in layer.parameters() if id(p) not in theirs)


def _separable_cost(module: nn.Module, sizes: Sizes, original: LayerCost) -> LayerCost:
    """What the baseline makes of a layer, by its own lights: it too keeps what it cannot shrink."""
    baseline = substitutions.get("separable")
    config = baseline.config({})
    if not sizes or baseline.refuse(module, config) is not None:
        return original
    cost = _total(baseline, as_convolution(module), config, sizes)
    return cost if cost.parameters < original.parameters else original


def _reason_to_rewrite(plan: LayerPlan, conv: Convolution) -> str:
    saved = 100 * (1 - plan.cost.parameters / plan.original.parameters)
    words = f"saves {saved:.1f} % of its parameters"
    if saved < 0:
        words = f"asked for, though it adds {-saved:.1f} % to its parameters"
    widest = max(conv.in_channels, conv.out_channels)
    if plan.length is not None and plan.length != widest:
        words += f"; N is {plan.length}, as {widest} has a large prime factor"
    if plan.execution != plan.cost.cheapest:
        words += f"; {plan.execution}, though {plan.cost.cheapest} has fewer Mult-Adds"
    return words


def _total(
    substitution: Substitution, conv: Convolution, config: SubstitutionConfig, sizes: Sizes
) -> LayerCost:
    costs = [(substitution.cost(conv, config, size), times) for size, times in sizes.items()]
    return LayerCost(
        costs[0][0].parameters,
        sum(cost.dense * times for cost, times in costs),
        sum(cost.fast * times for cost, times in costs),
    )


def nothing_to_do(plan: Plan) -> str:
    """Why a plan rewrites nothing, in words."""
    reasons: dict[str, list[str]] = {}
    for layer in plan.layers:
        reasons.setdefault(layer.reason, []).append(layer.name)
    listed = "; ".join(
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
        for reason, names in list(reasons.items())[:4]
    )
    return f"The plan rewrites none of the {len(plan.layers)} {plan.kind}. {listed}."


def describe(module: nn.Module) -> str:
    """A layer's type and geometry in torch's own words."""
    return f"{type(module).__name__}({module.extra_repr()})"
