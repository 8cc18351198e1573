"""Packages that only some tasks need: the extras of this package.

They are imported where they are used. A task that needs one asks for it first, before it has done any
work, so that what is missing is one clear error.
"""

from __future__ import annotations

from importlib.util import find_spec

from seclcompress.errors import UsageError
from seclcompress.wording import listed

#: Names in the package index, where they are not the names to import with dashes.
_INSTALLED_AS = {"sklearn": "scikit-learn"}


def missing(*modules: str) -> list[str]:
    """The packages that are not installed, by their names in the package index.

    Args:
        modules: The packages' names as they are imported.
    """
    return [
        _INSTALLED_AS.get(name, name.replace("_", "-"))
        for name in modules
        if find_spec(name) is None
    ]


def command(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'seclcompress[{extra}]'"


def need(task: str, extra: str, *modules: str) -> None:
    """Checks that the packages of a task are installed. Nothing is imported.

    Args:
        task: What needs them, as a person names it: the beginning of the error.
        extra: The extra of seclcompress that brings them.
        modules: The packages, as they are imported.

    Raises:
        UsageError: If one is not installed; the message says what installs it.
    """
    absent = missing(*modules)
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        raise UsageError(
            f"{task} needs {listed(absent)}, which {verb} not installed: {command(extra)}"
        )
