"""Parameters and Mult-Adds before and after, layer by layer.

Every figure of a rewritten network comes from the plan for the original network, so the rewritten one
need not be built or run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from seclcompress.cost import EXECUTIONS
from seclcompress.errors import PlanError
from seclcompress.plan import LayerPlan, Plan
from seclcompress.rewrite import rewrite_network, to_dense
from seclcompress.settings import Convention
from seclcompress.substitutions import structured_layers
from seclcompress.substitutions.shapes import Making
from seclcompress.trace import Trace, trace_network, whole_copy


def column_names(executions: Sequence[str]) -> tuple[str, ...]:
    """The columns of every report.

    The column `separable` shows which part of a saving any separable network has, so that it is not
    credited to the structured family. `fast` is there only if the layers have more than one execution.

    Args:
        executions: The executions that the rewritten layers have, some of `cost.EXECUTIONS`.
    """
    ways = EXECUTIONS if len(executions) > 1 else ("dense",)
    return ("original", "separable", *ways, "auto")


@dataclass(frozen=True)
class Totals:
    """The figures of a network, or of one of its layers, in one column.

    Attributes:
        parameters: Of a network, `sum(p.numel() for p in network.parameters())`.
        mult_adds: Mult-Adds per image.
    """

    parameters: int
    mult_adds: int


@dataclass(frozen=True)
class Row:
    """One layer in all columns.

    Attributes:
        name: The layer's name in the network.
        layer: The layer's type and geometry.
        action: `rewrite` or `keep`.
        reason: The reason for the action.
        substitution: The family that the layer is rewritten as; None for a layer that is kept.
        execution: The planned execution.
        executions: All executions that the layer has; one for a layer that is kept.
        columns: Totals of this layer by column.
        seconds: Measured seconds by execution, as in the plan; None if nothing was measured.
    """

    name: str
    layer: str
    action: str
    reason: str
    substitution: str | None
    execution: str
    executions: tuple[str, ...]
    columns: dict[str, Totals]
    seconds: dict[str, float] | None = None


@dataclass(frozen=True)
class Count:
    """A network before and after.

    Attributes:
        input_size: (channels, *spatial).
        columns: Totals of the network by column, `column_names` of the plan's executions.
        rows: A row for every layer of the plan, every other module with contractions, and the rest.
            The rows add up to `columns`.
        uncounted: Number of runs of each operation that counts as zero by convention.
        unknown: Number of runs of each operation that this package cannot count.
        assumed: Number of runs of each operation whose output's size depends on values; its largest
            size was assumed.
        convention: What counts as a Mult-Add: `macs` for ours (`cost`), `log` for `conventions`.
    """

    input_size: tuple[int, ...]
    columns: dict[str, Totals]
    rows: list[Row]
    uncounted: dict[str, int]
    unknown: dict[str, int]
    assumed: dict[str, int]
    convention: Convention = "macs"

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain JSON values."""
        return asdict(self)

    def column(self, name: str) -> Totals:
        """A column by name. `dense` stands in for an execution that no layer has.

        Raises:
            KeyError: If there is no column of this name, and no such execution.
        """
        if name not in self.columns and name in EXECUTIONS:
            name = "dense"
        return self.columns[name]

    def ratio(self, column: str, quantity: str) -> float:
        """The original's quantity divided by a column's; NaN if the column's is zero."""
        mine = getattr(self.column(column), quantity)
        original = getattr(self.columns["original"], quantity)
        return original / mine if mine else float("nan")


def count_network(network: nn.Module, trace: Trace, plan: Plan) -> Count:
    """Counts a network in all columns.

    Args:
        network: The original network that was traced; it may be a skeleton.
        trace: The network's trace.
        plan: The network's plan.
    """
    names = column_names(plan.executions)
    rows = [_layer_row(layer, names) for layer in plan.layers]
    rows += _other_rows(network, trace, plan, names)
    totals = {
        column: Totals(
            sum(row.columns[column].parameters for row in rows),
            sum(row.columns[column].mult_adds for row in rows),
        )
        for column in names
    }
    return Count(
        trace.input_size,
        totals,
        rows,
        dict(trace.uncounted),
        dict(trace.unknown),
        dict(trace.assumed),
    )


def dense_parameters(skeleton: nn.Module, plan: Plan) -> int:
    """Parameters of the rewritten network with its factors multiplied out, as `to_dense` has them.

    Args:
        skeleton: The original network; it may have no values, and is not changed.
        plan: The network's plan.
    """
    student = rewrite_network(whole_copy(skeleton), plan)
    total = sum(parameter.numel() for parameter in student.parameters())
    for layer in structured_layers(student):
        for making in layer.made_weights().values():
            assert isinstance(making, Making)
            factors = sum(factor.numel() for factor in making.factored.factors())
            total += math.prod(making.shape) - factors
    return total


def check_rewritten(network: nn.Module, counted: Count) -> None:
    """Checks that a rewritten network has the figures that were counted.

    If a network also holds a convolution outside of torch's view, such as in a plain list, it still runs
    the old convolution after the rewrite.

    Args:
        network: The network rewritten by the plan; it may be a skeleton. It is put into eval mode.
        counted: The figures counted from the plan.

    Raises:
        PlanError: If its parameters or dense Mult-Adds differ.
    """
    promised = counted.columns["dense"]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    mult_adds = trace_network(to_dense(network.eval()), counted.input_size).total_mult_adds
    if (parameters, mult_adds) != (promised.parameters, promised.mult_adds):
        raise PlanError(
            f"After rewriting, the network has {parameters:,} parameters and {mult_adds:,} dense "
            f"Mult-Adds, not {promised.parameters:,} and {promised.mult_adds:,} as planned: it uses a "
            "layer, or its weight, in a way that cannot be seen from outside. Find it with "
            "--only, and leave it alone with --keep."
        )


def _layer_row(layer: LayerPlan, names: Sequence[str]) -> Row:
    parameters = layer.cost.parameters
    figures = {name: Totals(parameters, layer.cost.under(name)) for name in names}
    figures |= {
        "original": Totals(layer.original.parameters, layer.original.under("dense")),
        "separable": Totals(layer.separable.parameters, layer.separable.under("dense")),
        "auto": Totals(parameters, layer.mult_adds),
    }
    return Row(
        layer.name,
        layer.layer,
        layer.action,
        layer.reason,
        layer.substitution,
        layer.execution,
        tuple(layer.cost.mult_adds),
        figures,
        layer.seconds,
    )


def _other_rows(network: nn.Module, trace: Trace, plan: Plan, columns: Sequence[str]) -> list[Row]:
    """Rows of modules with contractions that the plan does not name, and a row for everything else."""
    planned = {layer.name for layer in plan.layers}
    planned_parameters = sum(layer.original.parameters for layer in plan.layers)
    modules = dict(network.named_modules())
    rows = []
    seen: set[nn.Parameter] = set()
    for name in planned:
        seen.update(modules[name].parameters())
    for name, mult_adds in trace.mult_adds.items():
        if name in planned:
            continue
        module = modules[name]
        own = [p for p in module.parameters(recurse=False) if p not in seen]
        seen.update(own)
        title = type(module).__name__
        totals = Totals(sum(p.numel() for p in own), mult_adds)
        rows.append(_kept_row(name, title, totals, f"none of the {plan.kind} of the plan", columns))
    counted = sum(row.columns["original"].parameters for row in rows) + planned_parameters
    rest = sum(p.numel() for p in network.parameters()) - counted
    if rest:  # negative if parameters are shared: the rows count them at each use, the network once
        title = "normalisation and other parameters" if rest > 0 else "shared, counted once"
        rows.append(
            _kept_row("(the rest)", title, Totals(rest, 0), "not counted in Mult-Adds", columns)
        )
    return rows


def _kept_row(name: str, layer: str, totals: Totals, reason: str, columns: Sequence[str]) -> Row:
    return Row(
        name, layer, "keep", reason, None, "dense", ("dense",), dict.fromkeys(columns, totals)
    )
