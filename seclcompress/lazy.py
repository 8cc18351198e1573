"""Public names that are imported on first use, because the import of torch takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attributes(package: str, where: Mapping[str, str]) -> Callable[[str], Any]:
    """Makes the `__getattr__` of a package whose public names are imported on first use.

    Args:
        package: The package's `__name__`.
        where: Maps each public name to the module of the package that defines it. A public module maps
            to itself.
    """

    def find(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{where[name]}")
        return module if where[name] == name else getattr(module, name)

    return find
