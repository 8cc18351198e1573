"""A plan for a budget, with what could have been reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from seclcompress.count import Count
from seclcompress.plan import Plan
from seclcompress.settings.budget import Budget, Quantity

#: What the losses are known from: shapes, fits to trained weights, or images: the error of the fits'
#: outputs, that error when each layer was recovered alone, or the Fisher information of the first.
Source: TypeAlias = Literal["shapes", "weights", "output", "recovered", "fisher"]


@dataclass(frozen=True)
class Range:
    """The least and the most of a quantity that a plan from these candidates can have.

    Attributes:
        least: Of the whole network.
        most: Of the whole network; where layers are kept, that of the original.
    """

    least: int
    most: int


@dataclass(frozen=True)
class Point:
    """The best plan within a limit.

    Attributes:
        limit: What the whole network may have, or of time is predicted to take.
        parameters: What it then has.
        mult_adds: Its Mult-Adds per image.
        loss: What each layer that may change loses, on average (`sensitivity.mean_loss`).
        families: How many layers become which family.
        milliseconds: What it takes for an image, timed as a whole; None where time is not the quantity.
        predicted: What it was predicted to take; None likewise.
    """

    limit: int
    parameters: int
    mult_adds: int
    loss: float
    families: Mapping[str, int]
    milliseconds: float | None = None
    predicted: float | None = None

    def amount(self, quantity: Quantity) -> float:
        """What it has of a quantity; of time the milliseconds that were measured."""
        if quantity != "nanoseconds":
            return self.parameters if quantity == "parameters" else self.mult_adds
        assert self.milliseconds is not None
        return self.milliseconds


@dataclass(frozen=True)
class Curve:
    """The least loss against what a network may have.

    Attributes:
        label: The network, as the person named it.
        quantity: What is limited.
        families: The families among which was chosen.
        source: What the losses are known from.
        layers: The layers that may change.
        points: From the least of the quantity to that of the network as it is, or the best plan.
        output: The file that was written; None if there is none.
        data: The data set on which losses were measured; None if they were not.
        images: How many of its images.
        runtime: The runtime in which milliseconds were measured; None where they are not the quantity.
    """

    label: str
    quantity: Quantity
    families: tuple[str, ...]
    source: Source
    layers: int
    points: tuple[Point, ...]
    output: Path | None = None
    data: str | None = None
    images: int | None = None
    runtime: str | None = None


@dataclass(frozen=True)
class ImageTime:
    """Milliseconds that a network takes for one image, as it is and as planned, timed in turn.

    Attributes:
        runtime: The runtime in which it was measured.
        original: Measured, as it is.
        predicted: As planned, from layers that were timed alone.
        measured: As planned, timed as a whole.
    """

    runtime: str
    original: float
    predicted: float
    measured: float


@dataclass(frozen=True)
class Uniform:
    """One family with one set of options for every layer that can have it.

    Attributes:
        family: The family.
        options: Those options that the family's sizes differ in.
        loss: What each layer that may change loses, on average.
    """

    family: str
    options: Mapping[str, Any]
    loss: float

    def __str__(self) -> str:
        options = " ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.family} {options}".strip()


@dataclass(frozen=True)
class Budgeted:
    """A plan for a budget.

    Attributes:
        label: The network, as the person named it.
        budget: The budget.
        families: The families among which was chosen.
        source: What the losses are known from.
        reachable: By quantity, what the candidates can reach.
        plan: The plan.
        count: Its figures.
        loss: What each layer that may change loses, on average (`sensitivity.mean_loss`).
        layers: How many layers may change.
        candidates: The number of candidates of all layers together.
        uniform: The best plan within the budget that gives all layers the same; None if there is none.
        output: The file that was written; None if there is none.
        data: The data set on which losses were measured; None if they were not.
        images: How many of its images.
        time: What an image takes; None where milliseconds were not limited.
    """

    label: str
    budget: Budget
    families: tuple[str, ...]
    source: Source
    reachable: Mapping[Quantity, Range]
    plan: Plan
    count: Count
    loss: float
    layers: int
    candidates: int
    uniform: Uniform | None = None
    output: Path | None = None
    data: str | None = None
    images: int | None = None
    time: ImageTime | None = None
