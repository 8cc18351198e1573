"""What becomes of each convolution, why, and at what cost: decided from a trace, before any rewrite.

A plan is data. It can be written as JSON, edited (action, substitution, config, execution of a
layer), and given back; everything else in it is derived and is computed anew when it is read.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from seclcompress import substitutions
from seclcompress.cost import LayerCost, convolution_mult_adds
from seclcompress.errors import PlanError, describe_validation_error
from seclcompress.substitutions import SubstitutionConfig
from seclcompress.substitutions.contract import CONVOLUTIONS, Convolution
from seclcompress.trace import Trace

COST_MODELS = ("paper",)


class PlanOptions(BaseModel):
    """What a person asks of a plan.

    Attributes:
        substitution: The family to rewrite as.
        config: Options of that family by name.
        keep: Patterns of layers to leave alone.
        only: Patterns of the only layers to rewrite; empty for all.
        stem: Whether to rewrite the first convolution too (it costs accuracy, FACTS: 4 points).
        min_channels: Layers with fewer input or output channels are kept.
        cost_model: How `auto` chooses between dense and fast.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    substitution: str = "acdc"
    config: dict[str, Any] = {}
    keep: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    stem: bool = False
    min_channels: int = Field(default=1, ge=1)
    cost_model: Literal["paper"] = "paper"


class LayerPlan(BaseModel):
    """One convolution's fate.

    Attributes:
        name: Where it is in the network.
        layer: Its type and geometry; a plan fits a network only if this agrees.
        action: `rewrite` or `keep`. May be edited.
        reason: Why.
        substitution: The family it is rewritten as. May be edited.
        config: Options of that family, all of them. May be edited.
        execution: `dense` or `fast`: what `auto` runs in eval mode. May be edited.
        length: The transform's length N, where the family has one.
        output_sizes: The spatial size of each of its outputs for one image.
        original: Cost of the convolution as it is.
        separable: Cost as plain depthwise-separable; `original` for a layer that is kept.
        cost: Cost as planned; `original` for a layer that is kept.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    layer: str
    action: Literal["rewrite", "keep"]
    reason: str
    substitution: str | None = None
    config: dict[str, Any] = {}
    execution: Literal["dense", "fast"] = "dense"
    length: int | None = None
    output_sizes: list[tuple[int, ...]]
    original: LayerCost
    separable: LayerCost
    cost: LayerCost

    @property
    def mult_adds(self) -> int:
        """Mult-Adds an image under the chosen execution."""
        return self.cost.mult_adds(self.execution)


class Plan(BaseModel):
    """The fate of every convolution of a network at one input size.

    Attributes:
        schema_version: Of this format.
        input_size: (channels, *spatial) of the trace.
        cost_model: What chose the executions.
        layers: One entry a convolution, in the order in which they run.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    input_size: tuple[int, ...]
    cost_model: Literal["paper"] = "paper"
    layers: list[LayerPlan]

    @property
    def rewritten(self) -> list[LayerPlan]:
        """The layers that are rewritten."""
        return [layer for layer in self.layers if layer.action == "rewrite"]

    def to_json(self) -> str:
        """The plan as indented JSON; equal plans give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def convolutions(network: nn.Module) -> dict[str, nn.Module]:
    """Every convolution of a network by name, subclasses and grouped ones included."""
    kinds = tuple(CONVOLUTIONS.values())
    return {name: module for name, module in network.named_modules() if isinstance(module, kinds)}


def make_plan(network: nn.Module, trace: Trace, options: PlanOptions) -> Plan:
    """Decides the fate of every convolution.

    Args:
        network: The network that was traced.
        trace: Its trace.
        options: What was asked.

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
    order = _running_order(found, trace)
    layers = []
    for index, name in enumerate(order):
        module, sizes = found[name], trace.output_sizes(name)
        reason = _reason_to_keep(
            name, module, sizes, is_stem=index == 0, options=options
        ) or substitution.refuse(module, config)
        choice = None if reason else (options.substitution, config)
        layer = _layer_plan(name, module, sizes, choice, reason)
        if choice and layer.cost.parameters >= layer.original.parameters:
            reason = (
                f"not worth it: {layer.cost.parameters:,} parameters instead of "
                f"{layer.original.parameters:,}"
            )
            layer = _layer_plan(name, module, sizes, None, reason)
        layers.append(layer)
    plan = Plan(input_size=trace.input_size, cost_model=options.cost_model, layers=layers)
    if not plan.rewritten:
        raise PlanError(_nothing_to_do(plan))
    return plan


def _running_order(found: dict[str, nn.Module], trace: Trace) -> list[str]:
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
    if narrow < options.min_channels:
        return f"it has {narrow} channels, fewer than --min-channels {options.min_channels}"
    return None


def _layer_plan(
    name: str,
    module: nn.Module,
    sizes: list[tuple[int, ...]],
    choice: tuple[str, SubstitutionConfig] | None,
    reason: str | None,
    execution: str | None = None,
) -> LayerPlan:
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    original = _original_cost(module, sizes)
    plan = LayerPlan(
        name=name,
        layer=describe(module),
        action="keep",
        reason=reason or "",
        output_sizes=sizes,
        original=original,
        separable=original,
        cost=original,
    )
    if choice is None:
        return plan
    substitution, config = substitutions.get(choice[0]), choice[1]
    baseline = substitutions.get("separable")
    plan.action = "rewrite"
    plan.substitution = choice[0]
    plan.config = config.model_dump(mode="json")
    plan.length = substitution.length(module)
    plan.separable = _total(baseline, module, baseline.config({}), sizes)
    plan.cost = _total(substitution, module, config, sizes)
    plan.execution = execution or plan.cost.cheapest  # type: ignore[assignment]
    plan.reason = _reason_to_rewrite(plan, module, chosen=execution is not None)
    return plan


def _reason_to_rewrite(plan: LayerPlan, module: Convolution, *, chosen: bool) -> str:
    saved = 100 * (1 - plan.cost.parameters / plan.original.parameters)
    words = f"saves {saved:.1f} % of its parameters"
    widest = max(module.in_channels, module.out_channels)
    if plan.length is not None and plan.length != widest:
        words += f"; N is {plan.length}, as {widest} has a large prime factor"
    if chosen:
        words += "; execution taken from the plan"
    return words


def _total(
    substitution: substitutions.Substitution,
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


def describe(module: nn.Module) -> str:
    """A layer's type and geometry in torch's own words."""
    return f"{type(module).__name__}({module.extra_repr()})"


def _nothing_to_do(plan: Plan) -> str:
    reasons: dict[str, list[str]] = {}
    for layer in plan.layers:
        reasons.setdefault(layer.reason, []).append(layer.name)
    listed = "; ".join(
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
        for reason, names in list(reasons.items())[:4]
    )
    return f"The plan rewrites none of the {len(plan.layers)} convolutions. {listed}."


def read_plan(path: Path) -> Plan:
    """Reads a plan that this program wrote and a person may have edited.

    Raises:
        PlanError: If the file is missing or is not a plan.
    """
    try:
        return Plan.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"Cannot read the plan {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is not a plan: it is not UTF-8 text.") from error
    except ValidationError as error:
        raise PlanError(f"{path} is not a plan: {describe_validation_error(error)}.") from error


def fit_plan(plan: Plan, network: nn.Module, trace: Trace, source: str) -> Plan:
    """Takes over what a person decided in a plan, and computes the rest anew for this network.

    Args:
        plan: A plan that was read.
        network: The network it is meant for.
        trace: The network's trace.
        source: Where the plan comes from, for error messages.

    Raises:
        PlanError: If the plan is for another network or input size, names a layer twice, asks for
            what cannot be built, or changes nothing.
        UsageError: If a substitution or one of its options is unknown.
    """
    check_plan(plan, network, source)
    found = convolutions(network)
    decided = {layer.name: layer for layer in plan.layers}
    if plan.input_size != trace.input_size:
        raise PlanError(
            f"{source} was made for an input of {'×'.join(map(str, plan.input_size))}, not "
            f"{'×'.join(map(str, trace.input_size))}. Say --input-size or make a new plan."
        )
    layers = []
    for name in _running_order(found, trace):
        wanted, module, sizes = decided[name], found[name], trace.output_sizes(name)
        if wanted.action == "keep":
            layers.append(_layer_plan(name, module, sizes, None, wanted.reason))
            continue
        if wanted.substitution is None:
            raise PlanError(
                f"{source}, {name}: it is to be rewritten, but no substitution is named."
            )
        substitution = substitutions.get(wanted.substitution)
        config = substitution.config(wanted.config)
        reason = substitution.refuse(module, config)
        if reason is None and not sizes:
            reason = "it does not run in eval mode, so it has no size to plan for"
        if reason is not None:
            raise PlanError(
                f"{source}, {name}: cannot rewrite {wanted.layer} as '{wanted.substitution}': "
                f'{reason}. Set its action to "keep".'
            )
        layers.append(
            _layer_plan(name, module, sizes, (wanted.substitution, config), None, wanted.execution)
        )
    fitted = Plan(input_size=trace.input_size, cost_model=plan.cost_model, layers=layers)
    if not fitted.rewritten:
        raise PlanError(_nothing_to_do(fitted))
    return fitted


def check_plan(plan: Plan, network: nn.Module, source: str) -> None:
    """Makes sure that a plan speaks of exactly this network's convolutions.

    Raises:
        PlanError: If it does not; the first differences are listed.
    """
    complaints = _differences(plan, convolutions(network))
    if complaints:
        listed = "; ".join(complaints[:3])
        more = f"; and {len(complaints) - 3} more" if len(complaints) > 3 else ""
        raise PlanError(f"{source} is not a plan for this network: {listed}{more}.")


def _differences(plan: Plan, found: dict[str, nn.Module]) -> list[str]:
    complaints = []
    seen: set[str] = set()
    for layer in plan.layers:
        if layer.name in seen:
            complaints.append(f"it names {layer.name} twice")
        elif layer.name not in found:
            complaints.append(f"the network has no convolution {layer.name}")
        elif describe(found[layer.name]) != layer.layer:
            complaints.append(f"{layer.name} is {describe(found[layer.name])}, not {layer.layer}")
        seen.add(layer.name)
    return complaints + [f"it says nothing of {name}" for name in found if name not in seen]
