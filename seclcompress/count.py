"""Parameters and Mult-Adds before and after, layer by layer, and a second witness for both.

Every figure of a rewritten network comes from a plan over the original one: nothing has to be built
or run to know them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from seclcompress.plan import LayerPlan, Plan
from seclcompress.trace import Trace

#: The five columns of every report. Without the second, a saving that any separable network has
#: would be claimed for the structured family.
COLUMNS = ("original", "separable", "dense", "fast", "auto")


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
    """One layer in all five columns.

    Attributes:
        name: Where it is in the network.
        layer: Its type and geometry.
        action: `rewrite` or `keep`.
        reason: Why.
        substitution: The family it is rewritten as, if it is.
        length: The transform's length N, where there is one.
        execution: The choice for this layer.
        columns: Totals of this layer by column.
    """

    name: str
    layer: str
    action: str
    reason: str
    substitution: str | None
    length: int | None
    execution: str
    columns: dict[str, Totals]


@dataclass(frozen=True)
class Count:
    """A network before and after.

    Attributes:
        input_size: (channels, *spatial).
        columns: Totals of the network by column.
        rows: Every convolution, every other module with contractions, and the rest: the columns of
            the rows add up to `columns`.
        uncounted: How often each operation runs that by convention counts nothing.
        unknown: The same for operations that nobody here knows how to count.
    """

    input_size: tuple[int, ...]
    columns: dict[str, Totals]
    rows: list[Row]
    uncounted: dict[str, int]
    unknown: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return asdict(self)

    def ratio(self, column: str, quantity: str) -> float:
        """How many times smaller a column's quantity is than the original's; NaN for nothing."""
        mine = getattr(self.columns[column], quantity)
        original = getattr(self.columns["original"], quantity)
        return original / mine if mine else float("nan")


def count_network(network: nn.Module, trace: Trace, plan: Plan) -> Count:
    """Counts a network in all five columns.

    Args:
        network: The original network that was traced; a skeleton will do.
        trace: Its trace.
        plan: What becomes of its convolutions.
    """
    rows = [_convolution_row(layer) for layer in plan.layers]
    rows += _other_rows(network, trace, {layer.name for layer in plan.layers})
    columns = {
        column: Totals(
            sum(row.columns[column].parameters for row in rows),
            sum(row.columns[column].mult_adds for row in rows),
        )
        for column in COLUMNS
    }
    return Count(trace.input_size, columns, rows, dict(trace.uncounted), dict(trace.unknown))


def _convolution_row(layer: LayerPlan) -> Row:
    columns = {
        "original": Totals(layer.original.parameters, layer.original.dense),
        "separable": Totals(layer.separable.parameters, layer.separable.dense),
        "dense": Totals(layer.cost.parameters, layer.cost.dense),
        "fast": Totals(layer.cost.parameters, layer.cost.fast),
        "auto": Totals(layer.cost.parameters, layer.mult_adds),
    }
    return Row(
        layer.name,
        layer.layer,
        layer.action,
        layer.reason,
        layer.substitution,
        layer.length,
        layer.execution,
        columns,
    )


def _other_rows(network: nn.Module, trace: Trace, convolutions: set[str]) -> list[Row]:
    """Modules with contractions that are no convolution, and everything else in one row."""
    modules = dict(network.named_modules())
    rows = []
    seen: set[nn.Parameter] = set()
    for name in convolutions:
        seen.update(modules[name].parameters(recurse=False))
    for name, mult_adds in trace.mult_adds.items():
        if name in convolutions:
            continue
        module = modules[name]
        own = [p for p in module.parameters(recurse=False) if p not in seen]
        seen.update(own)
        title = type(module).__name__
        rows.append(_kept_row(name, title, Totals(sum(p.numel() for p in own), mult_adds)))
    rest = sum(p.numel() for p in network.parameters() if p not in seen)
    if rest:
        rows.append(_kept_row("(the rest)", "normalisation and other parameters", Totals(rest, 0)))
    return rows


def _kept_row(name: str, layer: str, totals: Totals) -> Row:
    columns = dict.fromkeys(COLUMNS, totals)
    return Row(name, layer, "keep", "not a convolution", None, None, "dense", columns)


def fvcore_mult_adds(network: nn.Module, input_size: tuple[int, ...]) -> tuple[int, dict[str, int]]:
    """A second witness: Mult-Adds by fvcore's FlopCountAnalysis, under our convention.

    fvcore counts normalisation and pooling too, and does not know attention; the handles here make
    it count contractions and nothing else. The network is run for real, once, in eval mode.

    Args:
        network: A network of plain layers; `to_dense` makes one of a rewritten network.
        input_size: (channels, *spatial).

    Returns:
        Mult-Adds an image, and how often each operation ran that fvcore does not know.
    """
    from fvcore.nn import FlopCountAnalysis

    device = next(network.parameters()).device
    image = torch.zeros(1, *input_size, device=device, dtype=next(network.parameters()).dtype)
    modes = {module: module.training for module in network.modules()}
    network.eval()
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation that hides three products
    try:
        with torch.no_grad():
            analysis = FlopCountAnalysis(network, image)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            analysis.tracer_warnings("none")
            analysis.set_op_handle(**_FVCORE_HANDLES)
            total = int(analysis.total())
            unknown = analysis.unsupported_ops()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
        for module, training in modes.items():
            module.training = training
    return total, dict(unknown)


def _shape(value: Any) -> list[int]:
    return list(value.type().sizes())


def _attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Scaled dot-product attention: query by key, then scores by value."""
    del outputs
    *batch, queries, width = _shape(inputs[0])
    keys, out_width = _shape(inputs[2])[-2:]
    scores = math.prod(batch) * queries * keys
    return Counter({"attention": scores * (width + out_width)})


def _einsum(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Two operands: the product of all index sizes. fvcore reads it off numpy's rounded text."""
    del outputs
    equation = inputs[0].toIValue().replace(" ", "")
    terms = equation.split("->")[0].split(",")
    operands = list(inputs[1].node().inputs())
    if len(terms) != 2 or "." in equation:
        raise NotImplementedError(f"Cannot count einsum {equation!r}.")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        sizes.update(zip(term, _shape(operand), strict=True))
    return Counter({"einsum": math.prod(sizes.values())})


def _same_convolution(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A convolution with padding 'same' or 'valid': every weight of a filter at every output."""
    filter_size = math.prod(_shape(inputs[1])[1:])
    return Counter({"conv": math.prod(_shape(outputs[0])) * filter_size})


def _nothing(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """For what is no contraction; a handle of None would leave fvcore's own in force."""
    del inputs, outputs
    return Counter()


_FVCORE_HANDLES: Mapping[str, Callable[..., Counter[str]]] = {
    "aten::scaled_dot_product_attention": _attention,
    "aten::einsum": _einsum,
    "aten::_convolution_mode": _same_convolution,
    **dict.fromkeys(
        [
            "aten::adaptive_avg_pool1d",
            "aten::adaptive_avg_pool2d",
            "aten::adaptive_avg_pool3d",
            "aten::batch_norm",
            "aten::group_norm",
            "aten::instance_norm",
            "aten::layer_norm",
            "aten::upsample_bilinear2d",
            "aten::upsample_nearest2d",
        ],
        _nothing,
    ),
}
