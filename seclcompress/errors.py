"""The errors that a user can cause, each with the exit code of the command line.

A message says where the error is, what is wrong (with the values), why, and what to do. Any other
exception is a bug in this program and is reported as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class SeclcompressError(Exception):
    """The base class of errors that the caller can understand and fix."""

    exit_code = 1


class UsageError(SeclcompressError):
    """The program was called in a way that cannot work; it has done nothing."""

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
    """Training cannot start or cannot continue."""


class UnsuitableSettingsError(TrainingError):
    """A run failed because of its settings: numbers that are not finite, too little memory, odd batches.

    The same run with other settings may well succeed.
    """


class ExportError(SeclcompressError):
    """A network cannot be exported, or an exported file computes something else."""


class HubError(SeclcompressError):
    """A repository of the Hugging Face Hub is missing, refuses, or cannot be reached."""


class SeclcompressWarning(UserWarning):
    """Something that the user should know and that does not stop the work."""


_TOO_MANY = 1000


def short(text: str, length: int) -> str:
    """Shortens a text to `length` characters, the last three of them dots where it was cut."""
    return text if len(text) <= length else text[: length - 3] + "..."


def describe_validation_error(error: ValidationError) -> str:
    """Turns pydantic's report into complaints of the form `where: why (got value)`.

    Args:
        error: The error that pydantic raised.

    Returns:
        At most three complaints separated by semicolons, then the number of further ones.
    """
    if error.error_count() > _TOO_MANY:  # listing them all takes minutes and gigabytes
        return f"{error.error_count():,} values in it are wrong"
    complaints = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "the whole"
        given = repr(item["input"])
        said = item["msg"].removeprefix("Value error, ")  # pydantic's word for our own words
        words = f"{short(said, 200)} (got {short(given, 60)})"
        complaints.append(f"{short(where, 120)}: {words}")
    more = f"; and {len(complaints) - 3} more" if len(complaints) > 3 else ""
    return "; ".join(complaints[:3]) + more
