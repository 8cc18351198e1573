"""A plan that a person gives back: it is read, checked against the network, and its figures renewed."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pydantic import ValidationError
from torch import nn

from seclcompress import substitutions
from seclcompress.cost import LayerCost
from seclcompress.errors import PlanError, describe_validation_error
from seclcompress.plan.decide import nothing_to_do
from seclcompress.plan.entries import Choice, Layer, describe, kept, known_layer, rewritten
from seclcompress.plan.layers import bound_layers, plannable, running_order
from seclcompress.plan.model import LayerPlan, Plan
from seclcompress.plan.reasons import NOT_RUN
from seclcompress.trace import Trace


def read_plan(path: Path) -> Plan:
    """Reads a plan that this program wrote and that a person may have edited.

    Raises:
        PlanError: If the file is missing or is not a plan.
    """
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        return Plan.model_validate_json(text)
    except OSError as error:
        raise PlanError(f"Cannot read the plan {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is not a plan: it is not UTF-8 text.") from error
    except ValidationError as error:
        if '"network"' in text and '"preprocessing"' in text:
            raise PlanError(
                f"{path} is the configuration of a saved folder. A plan is what --write-plan writes."
            ) from error
        raise PlanError(f"{path} is not a plan: {describe_validation_error(error)}.") from error


def is_plan(path: Path) -> bool:
    """Whether a file is a plan that can be read."""
    with contextlib.suppress(PlanError):
        read_plan(path)
        return True
    return False


def fit_plan(plan: Plan, network: nn.Module, trace: Trace, source: str) -> Plan:
    """Takes over a plan's decisions and computes everything else anew for this network.

    Args:
        plan: A plan that was read.
        network: The network it is meant for.
        trace: The network's trace.
        source: Where the plan comes from, for error messages.

    Raises:
        PlanError: If the plan is for another network or input size, names a layer twice, asks for a
            rewrite that is impossible, or rewrites nothing.
        UsageError: If a substitution or one of its options is unknown.
    """
    check_plan(plan, network, source)
    found = plannable(network, linear=plan.linear)
    decided = {layer.name: layer for layer in plan.layers}
    if plan.input_size != trace.input_size:
        raise PlanError(
            f"{source} was made for an input of {'×'.join(map(str, plan.input_size))}, not "
            f"{'×'.join(map(str, trace.input_size))}. Say --input-size or make a new plan."
        )
    bound = bound_layers(network, found, trace)
    layers = [
        _taken_over(
            decided[name],
            known_layer(name, found[name], trace, bound.get(name)),
            source,
            plan.timed_in,
        )
        for name in running_order(found, trace)
    ]
    fitted = plan.model_copy(update={"layers": layers})
    if not fitted.rewritten:
        raise PlanError(nothing_to_do(fitted))
    return fitted


def _taken_over(wanted: LayerPlan, layer: Layer, source: str, runtime: str) -> LayerPlan:
    """The entry with a given entry's decision, and with figures computed anew.

    Seconds cannot be; they are those of another layer if its cost has changed, and then left out.
    """
    # Action and execution may be edited; then nothing was undone.
    undone = wanted.alone
    if wanted.action == "rewrite" and wanted.execution != "dense":
        undone = None
    known = Choice(wanted.execution, wanted.seconds, wanted.noise, runtime, undone)
    if wanted.action == "keep":
        edited = wanted.substitution is not None or wanted.cost != wanted.original
        words = "kept by the plan" if edited else wanted.reason
        same = not edited and _alike(layer.original, wanted.original)
        on_demand = edited or wanted.on_demand
        return kept(layer, words, on_demand=on_demand, choice=known if same else None)
    where = f"{source}, {wanted.name}:"
    if wanted.substitution is None:
        raise PlanError(f"{where} it is to be rewritten, but no substitution is named.")
    substitution, config = substitutions.configured(wanted.substitution, wanted.config)
    reason = layer.bound or substitution.refuse(layer.site, config)
    if reason is None and not layer.runs:
        reason = NOT_RUN
    if reason is not None:
        raise PlanError(
            f"{where} cannot rewrite {wanted.layer} as '{wanted.substitution}': "
            f'{reason}. Set its action to "keep".'
        )
    if wanted.execution not in substitution.executions:
        raise PlanError(
            f"{where} '{wanted.substitution}' has no execution '{wanted.execution}'. It has: "
            f"{', '.join(substitution.executions)}."
        )
    cost = substitution.cost(layer.site, config)
    choice = known if _alike(cost, wanted.cost) else Choice(wanted.execution)
    return rewritten(layer, substitution, config, cost, choice)


def _alike(one: LayerCost, other: LayerCost) -> bool:
    """Whether two costs have the same figures; notes are words."""
    return (one.parameters, one.mult_adds) == (other.parameters, other.mult_adds)


def check_plan(plan: Plan, network: nn.Module, source: str) -> None:
    """Checks that a plan has entries for exactly this network's convolutions, or layers.

    Raises:
        PlanError: If it has not; the message lists the first differences.
    """
    complaints = _differences(plan, plannable(network, linear=plan.linear))
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
            complaints.append(f"the network has no {plan.kind[:-1]} {layer.name}")
        elif describe(found[layer.name]) != layer.layer:
            complaints.append(f"{layer.name} is {describe(found[layer.name])}, not {layer.layer}")
        seen.add(layer.name)
    return complaints + [f"it says nothing of {name}" for name in found if name not in seen]
