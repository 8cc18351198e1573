"""Mult-Adds by the convention of the SECL authors' research log.

Their program counted a network module by module: the Mult-Adds of convolutions and of linear layers,
whose biases count as well, one operation for each element of a ReLU module, and k² for each output of a
k × k pooling module. What a network does outside of modules (`F.relu`, `F.avg_pool2d`) is not counted,
so the figure depends on how a network is written. Two of its rules differ from what is computed:

- The size of a dilated convolution's output is taken as if it were not dilated.
- A stack of ACDC layers counts as min(L(4N + 5N log₂ N), N²) with N = max(c_in, c_out). Behind a filter
  (k > 1) it counts at the input's resolution, although the filter has the stride.

The ReLUs inside of what replaces a layer were functions in the authors' programs, and are not counted.
`tests/test_reference_counts.py` computes every table of the log.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

from torch import nn

from seclcompress.count import Count, Row, Totals
from seclcompress.plan import LayerPlan, Plan
from seclcompress.rewrite import rewrite_network, to_plain
from seclcompress.stack import layer_mult_adds, stack_mult_adds
from seclcompress.substitutions.site import Convolution
from seclcompress.trace import ModuleCall, Trace, trace_network, whole_copy

#: The column of the network as planned; the log has one figure for it, whichever way a layer runs.
_PLANNED = "auto"
#: The families that the log counts by the formula of fast transforms; others count as they run.
_BY_THE_FORMULA = ("acdc", "afdf")
_WITH_WEIGHTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def by_the_log(network: nn.Module, trace: Trace, plan: Plan, counted: Count) -> Count:
    """Counts a network again, with Mult-Adds by the log's convention.

    Args:
        network: The original network that was traced; it may be a skeleton.
        trace: The network's trace.
        plan: The network's plan.
        counted: The figures by our convention; parameters are the same.

    Returns:
        The columns `original` and `auto`, with a row more for ReLUs and pooling.
    """
    rewritten = to_plain(rewrite_network(whole_copy(network), plan))
    again = trace_network(rewritten, trace.input_size)
    replaced = {layer.name for layer in plan.rewritten}
    after: dict[str, int] = _by_module(rewritten, again, replaced)
    for layer in plan.rewritten:
        if layer.substitution in _BY_THE_FORMULA and len(layer.cost.mult_adds) > 1:
            after = {**after, **_fast_map(layer, rewritten, again)}
    names = {row.name for row in counted.rows}
    figures = {
        "original": _by_row(_by_module(network, trace), names),
        _PLANNED: _by_row(after, names),
    }
    rows = [_row(row, figures) for row in counted.rows]
    rest = {
        column: Totals(0, sum(found[name] for name in found.keys() - names))
        for column, found in figures.items()
    }
    rows.append(
        Row(
            "(between layers)", "ReLU and pooling modules", "keep", "counted by this convention",
            None, "dense", ("dense",), rest,
        )
    )  # fmt: skip
    totals = {
        column: replace(
            counted.columns[column], mult_adds=sum(row.columns[column].mult_adds for row in rows)
        )
        for column in figures
    }
    return replace(counted, columns=totals, rows=rows, convention="log")


def _by_module(network: nn.Module, trace: Trace, replaced: Collection[str] = ()) -> Counter[str]:
    """Mult-Adds by the module that runs them, with what the log's convention adds.

    Args:
        network: A network of torch's own layers.
        trace: Its trace.
        replaced: The names of layers that were replaced, possibly by several layers.
    """
    modules = dict(network.named_modules())
    found = Counter(trace.mult_adds)
    for call in trace.calls:
        module = modules[call.name]
        if not (isinstance(module, nn.ReLU) and _holder(call.name, replaced)):
            found[call.name] += _added(module, call)
    return found


def _added(module: nn.Module, call: ModuleCall) -> int:
    """What the convention adds to the Mult-Adds of one call of a module."""
    outputs = math.prod(call.shape)
    if isinstance(module, nn.ReLU):
        return outputs
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        kernel = module.kernel_size
        return outputs * (kernel**2 if isinstance(kernel, int) else math.prod(kernel))
    if isinstance(module, nn.Linear):
        return outputs if module.bias is not None else 0
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return module.weight.numel() * (_undilated(module, call) - math.prod(call.size.output))
    return 0


def _undilated(conv: Convolution, call: ModuleCall) -> int:
    """Positions of a convolution's output if it were not dilated."""
    if isinstance(conv.padding, str) or max(conv.dilation) == 1:
        return math.prod(call.size.output)
    return math.prod(
        (size + 2 * padding - kernel) // stride + 1
        for size, padding, kernel, stride in zip(
            call.size.input, conv.padding, conv.kernel_size, conv.stride, strict=True
        )
    )


def _fast_map(layer: LayerPlan, network: nn.Module, trace: Trace) -> dict[str, int]:
    """The log's Mult-Adds of a layer's map of the channels, by the modules that it is in `network`.

    Args:
        layer: A layer with a fast form.
        network: The rewritten network in torch's own layers: perhaps filters, and one or several layers
            for the map.
        trace: Its trace.
    """
    inside = network.get_submodule(layer.name).named_modules(prefix=layer.name)
    parts = [(name, part) for name, part in inside if isinstance(part, _WITH_WEIGHTS)]
    filters = [name for name, part in parts if math.prod(part.weight.shape[2:]) > 1]
    names = [name for name, _ in parts if name not in filters]
    shapes = [part.weight.shape[:2] for name, part in parts if name in names]
    length, depth = max(shapes[0][1], shapes[-1][0]), layer.config.get("depth", 0)
    outputs = sum(math.prod(calls.output_size) * calls.times for calls in layer.calls)
    inputs = sum(math.prod(calls.input_size or ()) * calls.times for calls in layer.calls)
    filtering = sum(trace.mult_adds[name] for name in filters)
    fast: float = (layer.cost.under("fast") - filtering) // outputs
    if fast == stack_mult_adds(length, depth):  # which is rounded up, as the log's figures are not
        fast = depth * layer_mult_adds(length)
    mult_adds = round(min(fast, length**2) * (inputs if filters else outputs))
    return dict.fromkeys(names, 0) | {names[-1]: mult_adds}


def _holder(name: str, places: Collection[str]) -> str | None:
    """The nearest of some modules that a module is, or stands in; None if there is none."""
    path = name.split(".")
    above = (".".join(path[:end]) for end in range(len(path), 0, -1))
    return next((place for place in above if place in places), None)


def _by_row(found: Mapping[str, int], rows: Collection[str]) -> Counter[str]:
    """Figures by the row that a module stands in or under; of others by the module."""
    summed: Counter[str] = Counter()
    for name, mult_adds in found.items():
        holder = _holder(name, rows)
        summed[name if holder is None else holder] += mult_adds
    return summed


def _row(row: Row, figures: dict[str, Counter[str]]) -> Row:
    columns = {
        column: replace(row.columns[column], mult_adds=found[row.name])
        for column, found in figures.items()
    }
    return replace(row, executions=(row.execution,), columns=columns)
