"""A plan for a budget: the tables of any plan, and what became of the budget in sentences."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from seclcompress.budget import Budgeted, Curve
from seclcompress.report.counts import count_table, layers_table
from seclcompress.report.records import CurveRecord, PlanRecord
from seclcompress.wording import milliseconds

_SEVERAL = 2


def plan_tables(found: Budgeted, width: int) -> RenderableType:
    """Makes the tables of a plan for a budget.

    Args:
        found: The plan.
        width: The width of the terminal in characters.
    """
    return Group(
        layers_table(found.count, width),
        "",
        count_table(found.label, found.count, found.plan, {}, width),
        Text(budget_words(found)),
    )


def budget_words(found: Budgeted) -> str:
    """What the budget allowed, what the plan has of it, and among how many candidates it was chosen."""
    totals = found.count.columns["auto"]
    time = found.time
    nanoseconds = None if time is None else round(1e6 * time.measured)
    held = found.budget.held(totals.parameters, totals.mult_adds, nanoseconds)
    reached = "; ".join(f"{one}, {one.left}" for one in held)
    layers = (
        "The one layer that may change loses"
        if found.layers == 1
        else f"{found.layers} layers may change, {len(found.plan.rewritten)} do; on average they lose"
    )
    what = {
        "weights": "of the trained weights' energy",
        "shapes": "of the parameters (no weights were given)",
        "output": f"of the outputs' energy on {found.images} images of {found.data}",
        "recovered": f"of the outputs' variance on {found.images} images of {found.data}, each layer "
        "recovered alone",
        "fisher": f"of what the mean layer's outputs are worth (Fisher information, {found.images} "
        f"images of {found.data})",
    }[found.source]
    timed = quick = ""
    if time is not None:
        quick = " that is predicted to take as little"
        timed = (
            f" As it is the network takes {milliseconds(time.original / 1e3)} ms in {time.runtime}, "
            f"timed in turn with the plan; {milliseconds(time.predicted / 1e3)} were predicted for the "
            "plan from layers that were timed alone."
        )
    return (
        f"Within the budget: {reached}.{timed} {layers} {100 * found.loss:.1f} % "
        f"{what}; no other choice among {found.candidates:,} candidates{quick} loses less by "
        f"more than 0.001 %.{_beside_uniform(found)}"
    )


def _beside_uniform(found: Budgeted) -> str:
    """What the best plan that gives all layers the same loses, in a sentence; empty without one."""
    one = found.uniform
    if one is None or found.layers < _SEVERAL:
        return ""
    return (
        f" The best that is the same for all of them within the budget, {one}, loses "
        f"{100 * one.loss:.1f} %."
    )


def plan_record(found: Budgeted) -> PlanRecord:
    """A plan for a budget as a record."""
    return PlanRecord(
        network=found.label,
        budget=found.budget,
        families=list(found.families),
        source=found.source,
        reachable=dict(found.reachable),
        candidates=found.candidates,
        loss=found.loss,
        layers=found.layers,
        uniform=found.uniform,
        columns=found.count.columns,
        plan=found.plan,
        output=None if found.output is None else str(found.output),
        data=found.data,
        images=found.images,
        time=found.time,
    )


def curve_record(found: Curve) -> CurveRecord:
    """The curve of plans as a record."""
    return CurveRecord(
        network=found.label,
        quantity=found.quantity,
        families=list(found.families),
        source=found.source,
        layers=found.layers,
        points=list(found.points),
        output=None if found.output is None else str(found.output),
        data=found.data,
        images=found.images,
        runtime=found.runtime,
    )
