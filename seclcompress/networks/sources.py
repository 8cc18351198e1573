"""The contract of a source of networks, and the registry of sources.

A source knows names and builds the networks that they stand for. A file in this folder that defines
`SOURCE` is registered under the `name` of that object; there is no list to edit. The tests in
`tests/networks/source_promises.py` define what every source promises, and run over all registered ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)
from torch import Tensor, nn

from seclcompress.errors import NetworkError
from seclcompress.networks.tasks import Task
from seclcompress.preprocessing import Preprocessing
from seclcompress.registry import found_in

# Limits on the options that a file may give a builder, because a malicious one could cost much time.
_LARGEST_OPTION = 2**16
_LONGEST_OPTION = 200
_DEEPEST_OPTION = 2


def _option(value: object, depth: int = 0) -> object:
    if value is None:
        return value
    if isinstance(value, int | float) and abs(value) <= _LARGEST_OPTION:  # not NaN
        return value
    if isinstance(value, str) and len(value) <= _LONGEST_OPTION:
        return value
    if (
        isinstance(value, list | tuple)
        and len(value) <= _LONGEST_OPTION
        and depth < _DEEPEST_OPTION
    ):
        return tuple(_option(item, depth + 1) for item in value)
    raise ValueError(
        f"an option is null, true, false, a number up to ±{_LARGEST_OPTION}, at most {_LONGEST_OPTION} "
        f"characters, or a list of at most {_LONGEST_OPTION} of these"
    )


OptionName = Annotated[str, Field(max_length=50)]
LayerName = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
#: An option of a builder: null, true, false, a number, a string, or a tuple of these.
Option = Annotated[Any, PlainValidator(_option)]


class NetworkSpec(BaseModel):
    """How a network is built before anything is rewritten; a spec has no weights.

    Attributes:
        source: The name of the source that builds the network.
        name: The source's name of the network: `resnet18`, `wrn40_2`, or `package.module:factory`.
        num_classes: Outputs of the classifier; None leaves the number to the source.
        options: Further options of the source's builder.
        widths: Inputs and outputs of layers that are narrower than the source builds them, by the
            layer's name. They are narrowed before anything is rewritten.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    name: str = Field(max_length=200)
    num_classes: int | None = Field(default=None, ge=1, le=10_000_000)
    options: dict[OptionName, Option] = Field(default={}, max_length=50)
    widths: dict[LayerName, tuple[PositiveInt, PositiveInt]] = Field(default={}, max_length=20_000)

    @model_serializer(mode="wrap")
    def _without_empty_widths(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out what most networks do not have, so that earlier versions read their folders."""
        content: dict[str, Any] = dump(self)
        if not self.widths:
            content.pop("widths", None)
        return content

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
    """Weights that the maker of a network publishes; found, but not fetched yet.

    Attributes:
        label: The name of the weights in messages.
        options: The builder's options with which the weights fit, and the network computes what they
            were trained for.
        input_size: The size at which they were trained or measured, (channels, *spatial).
        preprocessing: The preprocessing that they were trained with, if it is known.
        fetch: Returns the tensors by parameter name. The argument tells whether it may download them.
            Raises a WeightsError if it cannot get them.
    """

    label: str
    options: Mapping[str, Option]
    input_size: tuple[int, ...]
    preprocessing: Preprocessing | None
    fetch: Callable[[bool], dict[str, Tensor]]


class Source(ABC):
    """Where networks come from."""

    #: The source's name in `NetworkSpec.source` and in saved folders.
    name: ClassVar[str]
    #: A sentence for lists on names that it knows beside `names()`; empty if there are none.
    also: ClassVar[str] = ""
    #: Whether its builder runs the person's own code. Such a network is built only if the person named
    #: it in this very call, and always in full.
    runs_foreign_code: ClassVar[bool] = False
    #: Whether `input_size` is the size that a network was made for, and not a mere assumption.
    knows_input_size: ClassVar[bool] = True
    #: Whether its networks run at that size only, whatever size a data set's images have.
    needs_input_size: ClassVar[bool] = False
    #: Whether `--weights NAME` can name published weights of its networks.
    publishes_weights: ClassVar[bool] = False

    @abstractmethod
    def names(self) -> list[str]:
        """The names of its networks for lists."""

    def knows(self, name: str) -> bool:
        """Whether a name belongs to this source. No two sources know the same name."""
        return name in self.names()

    def refusal(self, name: str) -> str | None:
        """A sentence that tells why this source refuses a name, or None.

        It is called for names that no source knows, and makes a better message than "Unknown network".
        """
        del name
        return None

    def is_named(self, spec: NetworkSpec, typed: str) -> bool:
        """Whether a person's words name the network of a spec; asked if the source runs foreign code.

        Args:
            spec: A spec of this source, possibly from a stranger's file.
            typed: What the person typed in this call.
        """
        return typed == spec.name

    def spec(
        self,
        name: str,
        num_classes: int | None = None,
        options: Mapping[str, Option] | None = None,
    ) -> NetworkSpec:
        """The spec of the network with a name.

        Args:
            name: A name that the source knows.
            num_classes: Outputs of the classifier, if the person chose a number.
            options: Further options of the builder.

        Raises:
            NetworkError: If `num_classes` is given and cannot be chosen for this network.
            ValidationError: If a value is out of range.
        """
        return NetworkSpec(
            source=self.name, name=name, num_classes=num_classes, options=dict(options or {})
        )

    @abstractmethod
    def build(self, spec: NetworkSpec) -> nn.Module:
        """Builds a network with untrained weights, from torch's global random state.

        It may run under a mode that leaves large tensors without values. The spec may come from a
        stranger's file, so nothing in it may make the builder import code, read files or download.

        Args:
            spec: A spec of this source.

        Raises:
            NetworkError: If there is no such network or the options do not suit it. The caller turns
                other exceptions for unsuitable options (TypeError, RuntimeError, …) into one.
        """

    @abstractmethod
    def input_size(self, spec: NetworkSpec) -> tuple[int, ...]:
        """The usual input size of the network, (channels, *spatial)."""

    def task(self, spec: NetworkSpec) -> Task:
        """The network's task, as far as it is known before the network is built."""
        del spec
        return Task()

    def published_weights(self, name: str, spelling: str) -> PublishedWeights:
        """Finds published weights. It is called only if `publishes_weights` is true.

        Args:
            name: A network that the source knows.
            spelling: The name of the weights as given to `--weights`.

        Raises:
            WeightsError: If the network has no such weights; the message lists those that it has.
        """
        raise NotImplementedError(f"{self.name} publishes no weights: {name}, {spelling}")


@cache
def _registered() -> dict[str, Source]:
    return found_in("seclcompress.networks", "SOURCE")


def registered() -> list[Source]:
    """All sources, sorted by name."""
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
