"""The best plan that gives all layers the same family and options: what every other plan has to beat."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from seclcompress import substitutions
from seclcompress.budget.candidates import Candidate
from seclcompress.budget.result import Uniform
from seclcompress.settings.budget import Quantity


def uniform(
    layers: Sequence[Sequence[Candidate]],
    limits: Mapping[Quantity, int],
    beside: Mapping[Quantity, int],
) -> list[Candidate] | None:
    """Chooses one family with one set of options for all layers; a layer that cannot have it stays.

    Args:
        layers: The candidates of each layer, itself first.
        limits: The most of each limited quantity that the network may have.
        beside: What of each quantity it has outside these layers.

    Returns:
        The choice within the limits that loses least, of equal ones the smaller; None where none is.
    """
    keys = {key: None for layer in layers for key in map(_key, layer) if key is not None}
    found = []
    for key in keys:
        chosen = [next((one for one in every if _key(one) == key), every[0]) for every in layers]
        if all(beside[q] + sum(one.amount(q) for one in chosen) <= limits[q] for q in limits):
            found.append(chosen)
    return min(found, key=_order, default=None)


def described(chosen: Sequence[Candidate], loss: float) -> Uniform:
    """What such a choice is, in words that a person can repeat.

    Args:
        chosen: The choice.
        loss: What each layer that may change loses, on average.
    """
    entry = next(one.entry for one in chosen if one.entry.substitution is not None)
    assert entry.substitution is not None
    family = substitutions.get(entry.substitution)
    names = {name: None for options in family.Config.ladder() for name in options}
    return Uniform(entry.substitution, {name: entry.config[name] for name in names}, loss)


def _key(one: Candidate) -> tuple[str, str] | None:
    entry = one.entry
    if entry.substitution is None:
        return None
    return entry.substitution, json.dumps(entry.config, sort_keys=True)


def _order(chosen: Sequence[Candidate]) -> tuple[float, int]:
    return sum(one.penalty for one in chosen), sum(one.amount("parameters") for one in chosen)
