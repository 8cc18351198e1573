"""Deciding from a trace which layers are rewritten, and how."""

from __future__ import annotations

from torch import nn

from seclcompress import substitutions
from seclcompress.errors import PlanError
from seclcompress.plan.entries import (
    Choice,
    Chooser,
    Layer,
    fewest_mult_adds,
    kept,
    known_layer,
    rewritten,
)
from seclcompress.plan.layers import bound_layers, check_pattern, matches, plannable, running_order
from seclcompress.plan.model import ORIGINAL, LayerPlan, Plan
from seclcompress.plan.reasons import asked_to_stay, ends
from seclcompress.settings.planning import PlanOptions
from seclcompress.substitutions import Substitution, SubstitutionConfig
from seclcompress.trace import Trace


def make_plan(
    network: nn.Module,
    trace: Trace,
    options: PlanOptions,
    choose: Chooser = fewest_mult_adds,
    *,
    may_be_empty: bool = False,
) -> Plan:
    """Decides for every convolution, and for every Linear if asked to, whether it is rewritten.

    Args:
        network: The network that was traced.
        trace: Its trace.
        options: The options of the plan.
        choose: Chooses one of a family's executions; it should be the cost model that
            `options.cost_model` names. Unless originals are timed too, it is not called for a family
            with one execution.
        may_be_empty: Whether a plan that rewrites nothing is returned instead of an error.

    Raises:
        PlanError: If the network has no such layer, a pattern matches none, or none would be rewritten.
        UsageError: If a substitution or one of its options is unknown.
    """
    families = _Families(options)
    layers = [
        kept(layer, asked, on_demand=True)
        if asked is not None
        else _decided(layer, *families.of(layer.site.name), choose, options)
        for layer, asked in known_layers(network, trace, options)
    ]
    plan = Plan(
        input_size=trace.input_size,
        cost_model=options.cost_model,
        runtime=options.runtime,
        objective=options.objective,
        linear=options.linear,
        layers=layers,
    )
    if not plan.rewritten and not may_be_empty:
        raise PlanError(nothing_to_do(plan))
    return plan


def known_layers(
    network: nn.Module, trace: Trace, options: PlanOptions
) -> list[tuple[Layer, str | None]]:
    """The layers with an entry in a plan, in running order, before anything is decided.

    Args:
        network: The network that was traced.
        trace: Its trace.
        options: The options of the plan.

    Returns:
        Each layer with the reason why the options keep it; None if they do not.

    Raises:
        PlanError: If the network has no such layer, or a pattern matches none.
    """
    found = plannable(network, linear=options.linear)
    if not found:
        kind = "layer" if options.linear else "convolution"
        raise PlanError(f"The network has no {kind}, so there is nothing to rewrite.")
    given = [("--keep", p) for p in options.keep] + [("--only", p) for p in options.only]
    for flag, pattern in given + [("--assign", a.pattern) for a in options.assign]:
        check_pattern(flag, pattern, list(found), options)
    ran = [call.name for call in trace.calls if call.name in found]
    end = ends(ran, found, trace.makers, options)
    bound = bound_layers(network, found, trace)
    layers = [
        known_layer(name, found[name], trace, bound.get(name))
        for name in running_order(found, trace)
    ]
    return [(one, asked_to_stay(one, end.get(one.site.name), options)) for one in layers]


class _Families:
    """The family for each layer. All options are checked before the first layer is looked at."""

    def __init__(self, options: PlanOptions) -> None:
        self._default = _checked(options.substitution, options.config)
        self._assigned = [
            (wish.pattern, _checked(wish.substitution, wish.config)) for wish in options.assign
        ]

    def of(self, name: str) -> tuple[Substitution, SubstitutionConfig]:
        """The family of the first `--assign` pattern that matches this layer, or else the default."""
        for pattern, family in self._assigned:
            if matches(pattern, name):
                return family
        return self._default


def _checked(name: str, options: dict[str, object]) -> tuple[Substitution, SubstitutionConfig]:
    return substitutions.configured(name, options)


def _decided(
    layer: Layer,
    substitution: Substitution,
    config: SubstitutionConfig,
    choose: Chooser,
    options: PlanOptions,
) -> LayerPlan:
    """The entry of a layer that no option keeps."""
    reason = layer.bound or substitution.refuse(layer.site, config)
    if reason is not None:
        return kept(layer, reason)
    cost = substitution.cost(layer.site, config)
    if substitution.must_shrink and cost.parameters >= layer.original.parameters:
        return kept(
            layer,
            f"not worth it: {cost.parameters:,} parameters instead of "
            f"{layer.original.parameters:,}",
        )
    choice = Choice(cost.cheapest)
    if len(cost.mult_adds) > 1 or options.times_originals:
        choice = choose(layer.site, substitution, config)
    if choice.execution == ORIGINAL:
        return kept(layer, choice.against_its_own, on_demand=True, choice=choice)
    slower = choice.slower if choice.alone is None else None  # the whole network was asked
    if options.objective == "time" and slower is not None:
        return kept(layer, slower, on_demand=True, choice=choice)
    return rewritten(layer, substitution, config, cost, choice)


def nothing_to_do(plan: Plan) -> str:
    """The message for a plan that rewrites nothing, with the layers' reasons."""
    reasons: dict[str, list[str]] = {}
    for layer in plan.layers:
        reasons.setdefault(layer.reason, []).append(layer.name)
    listed = "; ".join(
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
        for reason, names in list(reasons.items())[:4]
    )
    return f"The plan rewrites none of the {len(plan.layers)} {plan.kind}. {listed}."
