"""Parameters and Mult-Adds before and after, layer by layer.

Every figure of a rewritten network comes from a plan over the original one: nothing has to be built
or run to know them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from seclcompress.cost import EXECUTIONS
from seclcompress.errors import PlanError
from seclcompress.plan import LayerPlan, Plan
from seclcompress.rewrite import to_dense
from seclcompress.trace import Trace, trace_network


def column_names(executions: Sequence[str]) -> tuple[str, ...]:
    """The columns of every report.

    Without the second, a saving that any separable network has would be claimed for the structured
    family. A third and a fourth are there where the layers can be executed in more than one way.

    Args:
        executions: Those that the rewritten layers have, some of `cost.EXECUTIONS`.
    """
    ways = EXECUTIONS if len(executions) > 1 else ("dense",)
    return ("original", "separable", *ways, "auto")


@dataclass(frozen=True)
class Totals:
    """One column: a whole network.

    Attributes:
        parameters: `sum(p.numel() for p in network.parameters())`.
        mult_adds: Mult-Adds an image.
    """

    parameters: int
    mult_adds: int


@dataclass(frozen=True)
class Row:
    """One layer in all columns.

    Attributes:
        name: Where it is in the network.
        layer: Its type and geometry.
        action: `rewrite` or `keep`.
        reason: Why.
        substitution: The family it is rewritten as, if it is.
        execution: The choice for this layer.
        executions: What there was to choose from; one for a layer that is kept.
        columns: Totals of this layer by column.
    """

    name: str
    layer: str
    action: str
    reason: str
    substitution: str | None
    execution: str
    executions: tuple[str, ...]
    columns: dict[str, Totals]


@dataclass(frozen=True)
class Count:
    """A network before and after.

    Attributes:
        input_size: (channels, *spatial).
        columns: Totals of the network by column, `column_names` of the plan's executions.
        rows: Every convolution, every other module with contractions, and the rest: the columns of
            the rows add up to `columns`.
        uncounted: How often each operation runs that by convention counts nothing.
        unknown: The same for operations that nobody here knows how to count.
        assumed: The same for operations whose output's size depends on values; it was taken at its
            largest.
    """

    input_size: tuple[int, ...]
    columns: dict[str, Totals]
    rows: list[Row]
    uncounted: dict[str, int]
    unknown: dict[str, int]
    assumed: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return asdict(self)

    def column(self, name: str) -> Totals:
        """A column by name; for an execution that no layer has, what runs instead."""
        return self.columns.get(name, self.columns["dense"])

    def ratio(self, column: str, quantity: str) -> float:
        """How many times smaller a column's quantity is than the original's; NaN for nothing."""
        mine = getattr(self.column(column), quantity)
        original = getattr(self.columns["original"], quantity)
        return original / mine if mine else float("nan")


def count_network(network: nn.Module, trace: Trace, plan: Plan) -> Count:
    """Counts a network in all columns.

    Args:
        network: The original network that was traced; a skeleton will do.
        trace: Its trace.
        plan: What becomes of its convolutions.
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


def check_rewritten(network: nn.Module, counted: Count) -> None:
    """Makes sure that a rewritten network is what was counted.

    A network that holds a convolution where torch does not see it (in a plain list, say) goes on
    running the old one.

    Args:
        network: Rewritten by the plan that was counted; a skeleton will do. Its mode is changed.
        counted: The figures that were promised.

    Raises:
        PlanError: If parameters or dense Mult-Adds are others.
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
    )


def _other_rows(network: nn.Module, trace: Trace, plan: Plan, columns: Sequence[str]) -> list[Row]:
    """Modules with contractions that the plan does not name, and everything else in one row."""
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
    if rest:  # negative where parameters are shared: the rows count each use, the total counts one
        title = "normalisation and other parameters" if rest > 0 else "shared, counted once"
        rows.append(
            _kept_row("(the rest)", title, Totals(rest, 0), "not counted in Mult-Adds", columns)
        )
    return rows


def _kept_row(name: str, layer: str, totals: Totals, reason: str, columns: Sequence[str]) -> Row:
    return Row(
        name, layer, "keep", reason, None, "dense", ("dense",), dict.fromkeys(columns, totals)
    )
