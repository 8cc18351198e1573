"""Names, numbers and shapes in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def listed(names: Iterable[str], most: int = 5) -> str:
    """Names in order and with commas; of many, the first ones and the number of the others."""
    shown = sorted(names)
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def numbers(values: Iterable[float]) -> str:
    """Numbers with commas: `0.485, 0.456, 0.406`."""
    return ", ".join(f"{value:g}" for value in values)


def milliseconds(seconds: float) -> str:
    """A time in milliseconds with two decimals, or with two digits where it is shorter than that."""
    number = 1e3 * seconds
    return f"{number:,.2f}" if number >= 0.1 else f"{number:.2g}"


def unsteady(number: int, what: str) -> str:
    """That times varied so much that they are not remembered.

    Args:
        number: How many times.
        what: Of what, in the singular.
    """
    plural = "" if number == 1 else "s"
    return (
        f"The times of {number} {what}{plural} varied by more than half, as they do where other work "
        "runs meanwhile. They are not remembered; plan again on a quiet machine."
    )


def shape(sizes: Iterable[int]) -> str:
    """A shape as on the command line: `3x224x224`."""
    return "x".join(map(str, sizes))


def printable(text: str) -> str:
    """Escapes characters that are not printable: names of others may hold control sequences."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def without_path(data: str) -> str:
    """A data set's name without the place of its folder on this machine: `imagefolder:photos`."""
    kind, colon, path = data.partition(":")
    return f"{kind}:{Path(path).absolute().name}" if colon else data
