"""The search space of `tune`: which settings of training are tried, and over which values.

A space is written as on the command line, `NAME=VALUES`:

- `lr=0.01..0.4:log`: from 0.01 to 0.4, evenly on a logarithmic scale;
- `cutout=0..16:4`: 0, 4, 8, 12, 16; without a step any number between the ends;
- `batch_size=64,128,256`: these values; `|` separates values that have commas themselves, as in
  `group_decay=gains=0,norms=0|gains=1e-4`. `none` is the value of a setting that is left to the program.

`TrainingSettings` checks every value, so a space cannot ask for a run that a person could not ask for.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import ValidationError

from seclcompress.errors import UsageError, describe_validation_error
from seclcompress.settings.training import DISTILLATION, INCIDENTAL, TrainingSettings, in_pairs

#: Settings that cannot be tried, with the reason.
_FIXED = {
    "epochs": "it is what the trials are given more or less of",
    "validation": "the trials are compared on the images that it holds out",
    "patience": "a study has a way of its own to stop runs",
    "train_images": "it decides what a trial costs",
    **dict.fromkeys(INCIDENTAL, "it does not change what is learnt"),
}
_DIGITS = 4  # significant ones of a number from a range, so that recipes can be read


@dataclass(frozen=True)
class Choices:
    """A few values of a setting.

    Attributes:
        values: The values by their spelling.
    """

    values: Mapping[str, Any]

    def __str__(self) -> str:
        return ("|" if any("," in name for name in self.values) else ",").join(self.values)


@dataclass(frozen=True)
class Range:
    """All values of a setting between two ends, both included.

    Attributes:
        low: The lowest value.
        high: The highest value.
        log: Whether values are spread evenly on a logarithmic scale.
        step: The distance between neighbouring values; None for any value.
        whole: Whether the values are whole numbers.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def __str__(self) -> str:
        how = ":log" if self.log else "" if self.step is None else f":{self.step}"
        return f"{self.low}..{self.high}{how}"

    def value(self, number: float) -> float | int:
        """The value for a number in the range: a whole one, or one with few digits.

        Args:
            number: Any number from `low` to `high`.
        """
        if self.whole:
            return int(number)
        return min(max(float(f"{number:.{_DIGITS}g}"), self.low), self.high)


Values: TypeAlias = Choices | Range
Space: TypeAlias = dict[str, Values]


def parse_space(texts: Iterable[str], *, distils: bool = True) -> Space:
    """Reads a search space.

    Args:
        texts: One `NAME=VALUES` for each setting.
        distils: Whether the runs have a teacher; without one, they do not use `DISTILLATION`.

    Returns:
        The values to try by the names of the settings, in the order given.

    Raises:
        UsageError: If there is no text, a name is unknown or given twice, a setting cannot be tried, or
            values cannot be read or are out of range.
    """
    space: Space = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name, values = name.strip().removeprefix("--").replace("-", "_"), values.strip()
        if not (name and equals and values):
            raise UsageError(
                f"--search {text}: it takes NAME=VALUES, as lr=0.01..0.4:log or batch_size=64,128."
            )
        _check_name(name, text, distils)
        if name in space:
            raise UsageError(f"--search {text}: {name} is given twice; put its values together.")
        space[name] = _parse_values(name, values, text)
    if not space:
        raise UsageError("There is nothing to try: name settings with --search NAME=VALUES.")
    return space


def _check_name(name: str, text: str, distils: bool) -> None:
    known = TrainingSettings.model_fields
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
        raise UsageError(f"--search {text}: there is no setting {name}. {hint}")
    if name in _FIXED:
        raise UsageError(f"--search {text}: {name} cannot be searched: {_FIXED[name]}.")
    if name in DISTILLATION and not distils:
        raise UsageError(
            f"--search {text}: {name} is used with a teacher only. Give one with --teacher."
        )


def _parse_values(name: str, values: str, text: str) -> Values:
    if ".." in values:
        return _parse_range(name, values, text)
    parts = [part.strip() for part in values.split("|" if "|" in values else ",")]
    chosen = {_spelled(value): value for part in parts for value in [_valid(name, part, text)]}
    if len(chosen) < 2:
        raise UsageError(
            f"--search {text}: one value is no choice. Set it as an option, or name several."
        )
    return Choices(chosen)


def _parse_range(name: str, values: str, text: str) -> Range:
    ends, _, how = values.partition(":")
    low, _, high = ends.partition("..")
    found = [_valid(name, end.strip(), text) for end in (low, high)]
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in found):
        raise UsageError(f"--search {text}: {name} has no range; name values, with commas.")
    whole = all(isinstance(end, int) for end in found)
    first, last = found
    if not first < last:
        raise UsageError(f"--search {text}: the range goes from {first:g} down to {last:g}.")
    if how == "log":
        if first <= 0:
            raise UsageError(
                f"--search {text}: a logarithmic range cannot begin at {first:g}; 0 can be one of "
                "several values, with commas."
            )
        return Range(first, last, log=True, whole=whole)
    return Range(first, last, step=_parse_step(how, last - first, whole, text), whole=whole)


def _parse_step(how: str, length: float, whole: bool, text: str) -> float | None:
    if not how:
        return None
    try:
        step = int(how) if whole else float(how)
    except ValueError:
        step = math.nan
    if not 0 < step <= length:
        raise UsageError(
            f"--search {text}: after the colon comes log, or a step of at most {length:g}"
            f"{', a whole number' if whole else ''}."
        )
    return step


def _valid(name: str, word: str, text: str) -> Any:
    """A value of a setting from its spelling, as the model reads it."""
    try:
        given = None if word == "none" else word
        return getattr(TrainingSettings.model_validate({name: given}), name)
    except ValidationError as error:
        raise UsageError(f"--search {text}: {describe_validation_error(error)}.") from error


def _spelled(value: Any) -> str:
    """A value as on the command line; equal values have equal spellings."""
    if isinstance(value, Mapping):
        return in_pairs(value)
    if isinstance(value, tuple):
        return ",".join(map(_spelled, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)
