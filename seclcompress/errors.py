"""The errors a person can cause, each with the exit code the command line ends with.

A message says where, what (with the values), why, and what to do. Anything else that is raised is a
bug in this program and is reported as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class SeclcompressError(Exception):
    """Something went wrong that the person who called can understand and mend."""

    exit_code = 1


class UsageError(SeclcompressError):
    """The program was called in a way that cannot work; nothing was tried."""

    exit_code = 2


class NetworkError(SeclcompressError):
    """A network is unknown, cannot be built, or cannot run at the given input size."""


class WeightsError(SeclcompressError):
    """A weights file cannot be read, or does not fit the network."""


class SubstitutionError(SeclcompressError):
    """A convolution cannot be rewritten as asked."""


class PlanError(SeclcompressError):
    """A plan is malformed, is for another network, or would change nothing."""


class ArtefactError(SeclcompressError):
    """A saved folder cannot be read or written."""


class DataError(SeclcompressError):
    """A data set is missing, empty, or does not fit the network."""


class TrainingError(SeclcompressError):
    """Training cannot go on."""


class SeclcompressWarning(UserWarning):
    """Something that a person should know and that does not stop the work."""


_TOO_MANY = 1000


def short(text: str, length: int) -> str:
    """A text for a message, cut off where it is longer than that."""
    return text if len(text) <= length else text[: length - 3] + "..."


def describe_validation_error(error: ValidationError) -> str:
    """Turns pydantic's report into one line a field: `where: why (what was given)`.

    Args:
        error: What pydantic raised.

    Returns:
        At most three complaints, then how many more there are.
    """
    if error.error_count() > _TOO_MANY:  # to list them all takes minutes and gigabytes
        return f"{error.error_count():,} values in it are wrong"
    complaints = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "the whole"
        given = repr(item["input"])
        words = f"{short(item['msg'], 200)} (got {short(given, 60)})"
        complaints.append(f"{short(where, 120)}: {words}")
    more = f"; and {len(complaints) - 3} more" if len(complaints) > 3 else ""
    return "; ".join(complaints[:3]) + more
