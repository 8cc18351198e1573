"""What a source of networks can, and which sources there are.

A source knows names and builds what they stand for. A file in this folder that defines `SOURCE` is
registered by being here: there is no list to edit. What every source promises is written down as tests
in `tests/networks/source_promises.py`, which run over all that are registered.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, field_validator
from torch import Tensor, nn

from seclcompress.errors import NetworkError
from seclcompress.networks.tasks import Task
from seclcompress.preprocessing import Preprocessing

# Bounds of what a file may ask of a builder: what a person was given may be made to cost time.
_LARGEST_OPTION = 2**16
_LONGEST_OPTION = 200


def _option(value: object) -> bool | int | float | str:
    if isinstance(value, int | float) and abs(value) <= _LARGEST_OPTION:  # not NaN
        return value
    if isinstance(value, str) and len(value) <= _LONGEST_OPTION:
        return value
    raise ValueError(
        f"an option is true, false, a number up to ±{_LARGEST_OPTION} or at most {_LONGEST_OPTION} "
        "characters"
    )


OptionName = Annotated[str, Field(max_length=50)]
Option = Annotated[bool | int | float | str, PlainValidator(_option)]


class NetworkSpec(BaseModel):
    """How a network is built before anything is rewritten; it holds no weights.

    Attributes:
        source: The name of the source that builds it.
        name: What that source calls it: `resnet18`, `wrn40_2`, or `package.module:factory`.
        num_classes: Outputs of the classifier; None leaves them to the source.
        options: Further options of the source's builder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    name: str = Field(max_length=200)
    num_classes: int | None = Field(default=None, ge=1, le=10_000_000)
    options: dict[OptionName, Option] = Field(default={}, max_length=50)

    @field_validator("source")
    @classmethod
    def _is_registered(cls, source: str) -> str:
        if source not in _registered():
            raise ValueError(
                f"there is no such source of networks, only {', '.join(_registered())}"
            )
        return source


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that the maker of a network publishes: found, not fetched.

    Attributes:
        label: How messages call them.
        options: What the builder has to be told so that they fit and mean what they should.
        input_size: What they were trained or measured at, as (channels, *spatial).
        preprocessing: What they were trained with, where that is known.
        fetch: Returns the tensors by parameter name. Its argument says whether they may be downloaded.
            It raises a WeightsError if they cannot be had.
    """

    label: str
    options: Mapping[str, Option]
    input_size: tuple[int, ...]
    preprocessing: Preprocessing | None
    fetch: Callable[[bool], dict[str, Tensor]]


class Source(ABC):
    """Where networks come from."""

    #: What `NetworkSpec.source` and saved folders call it.
    name: ClassVar[str]
    #: Which names it knows beside `names()`, as a sentence for lists; empty where there are none.
    also: ClassVar[str] = ""
    #: Whether building runs code that the person brought. Such a network is built only if the person
    #: named it in this very call, and always in full.
    runs_foreign_code: ClassVar[bool] = False
    #: Whether there are weights for its networks that `--weights NAME` can name.
    publishes_weights: ClassVar[bool] = False

    @abstractmethod
    def names(self) -> list[str]:
        """The names to show in lists."""

    def knows(self, name: str) -> bool:
        """Whether a name is one of this source. No two sources know the same name."""
        return name in self.names()

    def refusal(self, name: str) -> str | None:
        """Why a name that the source does not know as a network cannot become one, in a sentence.

        Returns:
            None where there is nothing to say about it.
        """
        del name
        return None

    def spec(
        self,
        name: str,
        num_classes: int | None = None,
        options: Mapping[str, Option] | None = None,
    ) -> NetworkSpec:
        """How the network of a name is built.

        Args:
            name: One that the source knows.
            num_classes: Outputs of the classifier, where the person chose a number.
            options: Further options of the builder.

        Raises:
            NetworkError: If the network has no classes to number.
            ValidationError: If a value is out of range.
        """
        return NetworkSpec(
            source=self.name, name=name, num_classes=num_classes, options=dict(options or {})
        )

    @abstractmethod
    def build(self, spec: NetworkSpec) -> nn.Module:
        """Builds a network with untrained weights, from torch's global random numbers.

        It may run under a mode that leaves large tensors without values. A spec may come from a
        stranger's file: nothing in it may make the builder import code, read files or download.

        Args:
            spec: One of this source.

        Raises:
            NetworkError: If there is no such network or the options do not suit it. What Python and
                torch raise over odd options (TypeError, RuntimeError, …) becomes one by itself.
        """

    @abstractmethod
    def input_size(self, spec: NetworkSpec) -> tuple[int, ...]:
        """The size that the network is usually run at, as (channels, *spatial)."""

    def task(self, spec: NetworkSpec) -> Task:
        """What the network is for, as far as that is known before it is built."""
        del spec
        return Task()

    def published_weights(self, name: str, spelling: str) -> PublishedWeights:
        """The published weights that a person means; asked only if the source publishes some.

        Args:
            name: A network that the source knows.
            spelling: What stood behind `--weights`.

        Raises:
            WeightsError: If the network has no such weights; those it has are listed.
        """
        raise NotImplementedError(f"{self.name} publishes no weights: {name}, {spelling}")


@cache
def _registered() -> dict[str, Source]:
    package = importlib.import_module(__name__.rpartition(".")[0])
    found: dict[str, Source] = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        source = getattr(module, "SOURCE", None)
        if source is None:
            continue
        if source.name in found:
            raise RuntimeError(f"Two sources of networks are named '{source.name}'.")
        found[source.name] = source
    return dict(sorted(found.items()))


def registered() -> list[Source]:
    """All sources, by their names."""
    return list(_registered().values())


def get(name: str) -> Source:
    """The source of that name.

    Raises:
        NetworkError: If there is none.
    """
    found = _registered().get(name)
    if found is None:
        known = ", ".join(_registered())
        raise NetworkError(f"There is no source of networks '{name}', only {known}.")
    return found


def that_knows(name: str) -> Source | None:
    """The source that knows a network's name, if one does."""
    return next((source for source in registered() if source.knows(name)), None)
