"""Reads settings as they come from the command line or a TOML file; a ValueError says what is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationInfo


def split(value: Any) -> Any:
    """Splits a list that comes from the command line, where commas separate its items."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def numbers(value: Any) -> Any:
    """Splits numbers that come from the command line; one number alone is the only one."""
    return (value,) if isinstance(value, int | float) else split(value)


_RULES = ("ratio", "fixed", "product")


def rule_or_number(value: Any) -> Any:
    """Checks the name of a rule or a number; pydantic would report one error per member of the union."""
    if value in _RULES:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"it takes {', '.join(_RULES)} or a number of at least 0")
    return number


def pairs(value: Any) -> Any:
    """Reads a mapping that comes from the command line as `NAME=NUMBER,NAME=NUMBER`."""
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        name, equals, number = (word.strip() for word in part.partition("="))
        if not (name and equals):
            raise ValueError("it takes GROUP=NUMBER, several with commas")
        if name in found:
            raise ValueError(f"it names {name} twice")
        found[name] = number
    return found


def without_factors(value: Mapping[str, float], info: ValidationInfo) -> Mapping[str, float]:
    """Refuses the group that has a setting of its own."""
    if "factors" in value:
        own = str(info.field_name).replace("group", "--factor").replace("_", "-")
        raise ValueError(f"the structured factors have a setting of their own, {own}")
    return value


def pixel_value(value: float) -> float:
    """Refuses pixel values on the scale to 255."""
    if not 0 <= value <= 1:
        near = f": {value / 255:.3f}?" if 1 < value <= 255 else "."
        raise ValueError(f"pixel values are from 0 to 1 here, not to 255{near}")
    return value
