"""Plans that earlier versions wrote, made into today's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The one family of 0.1 that had two executions.
_WITH_TRANSFORM = "acdc"


def upgraded(content: Any) -> Any:
    """A plan's JSON as schema 2; what is none of schema 1 comes back as it is, for the model to judge.

    Schema 1 (seclcompress 0.1) had two costs for every layer, a transform's length, and no input sizes.
    A family without a transform could be planned `fast` as well, which was its dense execution.

    Args:
        content: What was read, of any kind.
    """
    if not isinstance(content, Mapping) or content.get("schema_version", 2) != 1:
        return content
    layers = content.get("layers")
    if not isinstance(layers, list):
        return {**content, "schema_version": 2}
    if any(isinstance(layer, Mapping) and "calls" in layer for layer in layers):
        return content  # what schema 1 has not
    return {**content, "schema_version": 2, "layers": [_layer(layer) for layer in layers]}


def _layer(layer: Any) -> Any:
    if not isinstance(layer, Mapping):
        return layer
    layer = dict(layer)
    layer.pop("length", None)
    sizes, times = layer.pop("output_sizes", None), layer.pop("times", None) or []
    if isinstance(sizes, list) and isinstance(times, list):
        each = [*times, *[1] * (len(sizes) - len(times))]
        layer["calls"] = [
            {"input_size": None, "output_size": size, "times": number}
            for size, number in zip(sizes, each, strict=False)
        ]
    several = layer.get("substitution") == _WITH_TRANSFORM
    if layer.get("execution") == "fast" and not several:
        layer["execution"] = "dense"
    rewritten = layer.get("action") == "rewrite"
    for name in {"original", "separable", "cost"} & layer.keys():
        both = name == "cost" and rewritten and several
        layer[name] = _cost(layer[name], ("dense", "fast") if both else ("dense",))
    return layer


def _cost(cost: Any, executions: tuple[str, ...]) -> Any:
    if not isinstance(cost, Mapping) or not cost.keys() >= {"parameters", *executions}:
        return cost
    return {
        "parameters": cost["parameters"],
        "mult_adds": {execution: cost[execution] for execution in executions},
    }
