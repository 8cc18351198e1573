"""Things that are registered by being there: one file in a package, one object in it."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def found_in(package: str, attribute: str) -> dict[str, Any]:
    """Imports every file of a package and collects the objects of one name.

    Args:
        package: The package's dotted name.
        attribute: The name under which a file defines its object, such as `SUBSTITUTION`. The object has
            a `name`.

    Returns:
        The objects by their names, sorted.

    Raises:
        RuntimeError: If two objects have the same name.
    """
    found: dict[str, Any] = {}
    for about in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module = importlib.import_module(f"{package}.{about.name}")
        registered = getattr(module, attribute, None)
        if registered is None:
            continue
        if registered.name in found:
            raise RuntimeError(
                f"Two files in {package} define a {attribute} named '{registered.name}'."
            )
        found[registered.name] = registered
    return dict(sorted(found.items()))
