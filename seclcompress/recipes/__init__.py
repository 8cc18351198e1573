"""Recipes: TOML files of training settings, by name or by path.

The keys of a recipe are fields of `TrainingSettings`, and `description`. A field that the recipe does
not set keeps its default. To add a recipe, add a TOML file to this folder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from seclcompress.errors import UsageError, describe_validation_error
from seclcompress.settings.training import INCIDENTAL, TrainingSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "INCIDENTAL",
    "TrainingSettings",
    "describe",
    "make_settings",
    "names",
    "read_recipe",
    "to_toml",
]

_LARGEST = 2**20  # bytes


def names() -> list[str]:
    """The names of the recipes that come with the program, sorted."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def describe(name: str) -> str:
    """The description of a recipe that comes with the program."""
    return str(_parse(_own(name), name).get("description", ""))


def read_recipe(name: str) -> dict[str, Any]:
    """Reads the settings that a recipe sets, by field name.

    Args:
        name: One of `names()`, or the path of a TOML file.

    Raises:
        UsageError: If the recipe does not exist, is not TOML, or has unknown keys.
    """
    if name in names():
        text = _own(name)
    else:
        path = Path(name).expanduser()
        if not (name.endswith(".toml") or "/" in name or path.is_file()):
            raise UsageError(
                f"Unknown recipe '{name}'. There are: {', '.join(names())}; or a TOML file's path."
            )
        try:
            if path.stat().st_size > _LARGEST:
                raise UsageError(
                    f"{path} has {path.stat().st_size:,} bytes; no recipe is so large."
                )
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"Cannot read the recipe {path}: {reason}.") from error
    values = _parse(text, name)
    values.pop("description", None)
    unknown = sorted(values.keys() - TrainingSettings.model_fields.keys())
    if unknown:
        raise UsageError(
            f"The recipe {name} has unknown settings: {', '.join(unknown)}. "
            f"There are: {', '.join(TrainingSettings.model_fields)}."
        )
    return values


def make_settings(recipe: str | None, given: Mapping[str, Any]) -> TrainingSettings:
    """Combines a recipe with settings that take precedence over it.

    Args:
        recipe: A recipe's name or file; None for the defaults.
        given: Values of fields of `TrainingSettings`, as from the command line. They take precedence.

    Raises:
        UsageError: If the recipe cannot be read or a value is out of range.
    """
    values = {**(read_recipe(recipe) if recipe else {}), **given}
    try:
        return TrainingSettings.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{describe_validation_error(error)}.") from error


def to_toml(values: Mapping[str, Any], description: str) -> str:
    """Writes a recipe.

    Args:
        values: Values of fields of `TrainingSettings`. None is left out, as it is the default of every
            field that may have it.
        description: A sentence for `describe`.

    Returns:
        TOML that `read_recipe` reads as these values.

    Raises:
        UsageError: If a value is out of range or a name is unknown.
    """
    import tomli_w

    settings = make_settings(None, values)
    chosen = settings.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return tomli_w.dumps({"description": description, **chosen})


def _own(name: str) -> str:
    return (resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8")


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"The recipe {name} is no TOML: {error}.") from error
