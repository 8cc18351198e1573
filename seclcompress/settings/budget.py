"""A budget: the most that a network may have of what counts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from seclcompress.errors import UsageError
from seclcompress.wording import milliseconds

#: What a plan's figures say, per image where it matters.
Quantity: TypeAlias = Literal["parameters", "mult_adds", "nanoseconds"]
#: Those that shapes alone say, in words.
WORDS: dict[Quantity, str] = {"parameters": "parameters", "mult_adds": "Mult-Adds"}
#: The families among which a plan chooses where none are named. Energy does not tell how well families
#: train (docs/frontier.md), so that mixing several is a person's choice.
FAMILIES = ("acdc", "separable")
_BYTES = 4  # of a float32 parameter
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_SHORTEST = Decimal("0.000001")  # ms
_NUMBER = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([kmg]?)(b?)", re.IGNORECASE)


@dataclass(frozen=True)
class Held:
    """What a network has of something that a budget limits.

    Attributes:
        words: What it is.
        has: How much there is.
        most: How much there may be.
    """

    words: str
    has: int | float
    most: int | float

    def __str__(self) -> str:
        over = self.has - self.most
        words = f"{_spelled(self.has)} of {_spelled(self.most)} {self.words}"
        return f"{words}, {_spelled(over)} too many" if over > 0 else words

    @property
    def left(self) -> str:
        """How much more there may be, in words."""
        return f"{_spelled(self.most - self.has)} left over"


class Budget(BaseModel):
    """The most that a rewritten network may have, all of its layers together; None is no limit.

    Attributes:
        parameters: Trainable values.
        mult_adds: Mult-Adds per image, each layer by its planned execution.
        bytes: Bytes of the weights in float32, 4 for each parameter, as `count` shows them.
        ms: Milliseconds that the network takes for one image in a runtime, on this machine: predicted
            from layers that are timed alone, and then held by the clock of the whole network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: int | None = Field(default=None, ge=1)
    mult_adds: int | None = Field(default=None, ge=1)
    bytes: int | None = Field(default=None, ge=1)
    ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @property
    def limits(self) -> dict[Quantity, int]:
        """The limits in the quantities that a plan counts; bytes are limits on parameters."""
        numbers = [
            n for n in (self.parameters, self.bytes and self.bytes // _BYTES) if n is not None
        ]
        found: dict[Quantity, int] = {}
        if numbers:
            found["parameters"] = min(numbers)
        if self.mult_adds is not None:
            found["mult_adds"] = self.mult_adds
        if self.ms is not None:
            found["nanoseconds"] = int(Decimal(str(self.ms)) * 10**6)
        return found

    @property
    def untimed(self) -> Budget:
        """The same without a limit of time."""
        return self.model_copy(update={"ms": None})

    def held(self, parameters: int, mult_adds: int, nanoseconds: int | None = None) -> list[Held]:
        """What a network has of everything that is limited.

        Args:
            parameters: Its parameters.
            mult_adds: Its Mult-Adds per image.
            nanoseconds: What it takes for an image; None where that is not known.
        """
        has: dict[str, tuple[str, int | float]] = {
            "parameters": (WORDS["parameters"], parameters),
            "mult_adds": (WORDS["mult_adds"], mult_adds),
            "bytes": ("float32 bytes", _BYTES * parameters),
        }
        if nanoseconds is not None:
            has["ms"] = ("ms an image", nanoseconds / 1e6)
        return [Held(*has[name], most) for name, most in self.given().items() if name in has]

    def __str__(self) -> str:
        return ", ".join(
            f"{_flag(name)}={_exactly(number)}" for name, number in self.given().items()
        )

    def given(self) -> dict[str, int | float]:
        """The limits as they were asked for, by their names."""
        return {name: n for name, n in self.model_dump().items() if n is not None}


def check_untimed(budget: Budget | None, command: str) -> None:
    """Refuses a limit of time where nothing is timed.

    Raises:
        UsageError: If there is one.
    """
    if budget is not None and budget.ms is not None:
        raise UsageError(
            f"--budget ms={_exactly(budget.ms)}: {command} times nothing. plan does; limit parameters, "
            "mult-adds or bytes here."
        )


def parse_budget(text: str) -> Budget:
    """Reads a budget as on the command line: `parameters=100k,mult-adds=50M,bytes=400kB,ms=20`.

    k, M and G are powers of 1,000, whatever their case; a B behind them is allowed for bytes.
    Milliseconds are a number alone.

    Raises:
        UsageError: If a quantity is unknown, is given twice, or has no number that can be read.
    """
    known = {_flag(name): name for name in Budget.model_fields}
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        word, equals, number = (side.strip() for side in part.partition("="))
        name = known.get(word)
        if name is None or not equals:
            raise UsageError(
                f"--budget {part}: it takes {', '.join(f'{one}=NUMBER' for one in known)}, several "
                "with commas."
            )
        if name in found:
            raise UsageError(f"--budget: {word} is given twice.")
        timed = name == "ms"
        found[name] = _time(part, number) if timed else _number(part, number, name == "bytes")
    if not found:
        raise UsageError(
            "--budget: it is empty. Say what the network may have at most, as parameters=100k."
        )
    return Budget(**found)


def _time(part: str, text: str) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None or match[2] or match[3] or Decimal(match[1]) < _SHORTEST:
        raise UsageError(f"--budget {part}: it takes a number of milliseconds, as ms=20 or ms=1.5.")
    return float(match[1])


def _spelled(number: float) -> str:
    """A count as it is; a time with two decimals, or two digits where it is short."""
    return f"{number:,}" if isinstance(number, int) else milliseconds(number / 1e3)


def _exactly(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.6f}".rstrip("0").rstrip(".")


def _number(part: str, text: str, of_bytes: bool) -> int:
    match = _NUMBER.fullmatch(text)
    whole = 0
    if match is not None and (of_bytes or not match[3]):
        whole = int(Decimal(match[1]) * _UNITS[match[2].lower()])
    if whole < 1:
        raise UsageError(
            f"--budget {part}: it takes a number of at least 1, as 100000, 100k or 1.5M"
            f"{', for bytes also 400kB' if of_bytes else ''}."
        )
    return whole


def _flag(name: str) -> str:
    return name.replace("_", "-")
