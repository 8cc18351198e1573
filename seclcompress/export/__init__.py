"""Networks as files for other runtimes, one file a format in `formats/`; there is no list to edit.

`prepare` makes torch's own layers of a network and folds batch norm; a format writes them; `verify` runs
what was written and compares it with the network.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from seclcompress.errors import UsageError
from seclcompress.export.contract import Format
from seclcompress.registry import found_in


@cache
def _registered() -> dict[str, Format]:
    return found_in(f"{__name__}.formats", "FORMAT")


def names() -> list[str]:
    """The names of all formats, sorted."""
    return list(_registered())


def get(name: str) -> Format:
    """The format of that name.

    Raises:
        UsageError: If there is none.
    """
    try:
        return _registered()[name]
    except KeyError:
        raise UsageError(f"Unknown format '{name}'. There are: {', '.join(names())}.") from None


def of_runtime(runtime: str) -> Format:
    """The format whose files a runtime runs.

    Raises:
        UsageError: If there is none.
    """
    found = {format.runtime: format for format in _registered().values() if format.runs}
    if runtime not in found:
        raise UsageError(f"Unknown runtime '{runtime}'. There are: {', '.join(sorted(found))}.")
    return found[runtime]


def of_file(path: str | Path) -> Format | None:
    """The format of a file by its name's ending; None for any other ending."""
    suffix = Path(path).suffix
    return next((one for one in _registered().values() if one.suffix == suffix), None)
