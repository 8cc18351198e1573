"""Conversion of plans that earlier versions wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The one family of 0.1 that had two executions.
_WITH_TRANSFORM = "acdc"


def upgraded(content: Any) -> Any:
    """Converts a plan's JSON of schema 1 to schema 2.

    Schema 1 (seclcompress 0.1) had two costs for every layer, a transform's length, and no input sizes.
    It could also plan a family without a transform as `fast`, which meant its dense execution.

    Args:
        content: The JSON value that was read, of any type.

    Returns:
        The converted plan. Anything that is not a plan of schema 1 is returned as it is, and validation
        then reports what is wrong.
    """
    if not isinstance(content, Mapping):
        return content
    layers = content.get("layers")
    if content.get("schema_version", _version_of(layers)) != 1:
        return content
    if not isinstance(layers, list):
        return {**content, "schema_version": 2}
    if any(isinstance(layer, Mapping) and "calls" in layer for layer in layers):
        return content  # schema 1 has no `calls`
    return {**content, "schema_version": 2, "layers": [_layer(layer) for layer in layers]}


def _version_of(layers: Any) -> int:
    """The schema version of a plan that does not say it, as version 1 need not."""
    first = layers[0] if isinstance(layers, list) and layers else None
    return 1 if isinstance(first, Mapping) and "output_sizes" in first else 2


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
