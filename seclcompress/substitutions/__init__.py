"""Structured replacements of convolutions and Linears, one file each.

A file in this folder that defines `SUBSTITUTION` is registered under the `name` of that object; there
is no list to edit. `contract.py` holds the contract, and the tests in `tests/substitutions/` run over
all registered families.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any

from seclcompress.errors import UsageError
from seclcompress.registry import found_in
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.fitting import Fit
from seclcompress.substitutions.linear import StructuredLinear
from seclcompress.substitutions.site import CallSize, Site
from seclcompress.substitutions.structured import (
    StructuredConv,
    StructuredLayer,
    multiplied_out,
    plain_layers,
    set_execution,
    structured_layers,
)

__all__ = [
    "CallSize",
    "Fit",
    "Site",
    "StructuredConv",
    "StructuredLayer",
    "StructuredLinear",
    "Substitution",
    "SubstitutionConfig",
    "configured",
    "get",
    "multiplied_out",
    "names",
    "plain_layers",
    "set_execution",
    "structured_layers",
]


@cache
def _registered() -> dict[str, Substitution]:
    return found_in(__name__, "SUBSTITUTION")


def names() -> list[str]:
    """The names of all substitutions, sorted."""
    return list(_registered())


def get(name: str) -> Substitution:
    """The registered substitution of that name, or the one that has the name as an alias.

    Args:
        name: As in `--substitution`.

    Raises:
        UsageError: If there is none; the message suggests the nearest names.
    """
    found = _registered().get(name) or next(
        (family for family in _registered().values() if family.alias(name) is not None), None
    )
    if found is None:
        near = difflib.get_close_matches(name, names(), cutoff=0.4)
        hint = f"Did you mean {', '.join(near)}?" if near else f"There are: {', '.join(names())}."
        raise UsageError(f"Unknown substitution '{name}'. {hint}")
    return found


def configured(name: str, options: Mapping[str, Any]) -> tuple[Substitution, SubstitutionConfig]:
    """The substitution of that name, and its options with those that an alias stands for.

    Args:
        name: As in `--substitution`; an alias such as `G8B2` stands for options, too.
        options: Values by name; a string is parsed as the option's type.

    Raises:
        UsageError: If there is no such substitution, an option is unknown or out of range, or an option
            contradicts the alias.
    """
    family = get(name)
    meant = {} if family.name == name else family.alias(name) or {}
    config = family.config({**meant, **options})
    alone = family.config(meant)
    for option in meant:
        found, wanted = getattr(config, option), getattr(alone, option)
        if found != wanted:
            raise UsageError(
                f"{name} stands for {family.name} with {option}={wanted}, but {option}={found} is "
                f"given as well. Name the family itself: {family.name}."
            )
    return family, config
