"""The contract of an export format: how it is written, and how what it wrote is run."""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from torch import Tensor

from seclcompress import extras
from seclcompress.errors import UsageError
from seclcompress.export.content import Content, Written
from seclcompress.export.prepare import Prepared

Array: TypeAlias = np.ndarray[Any, Any]
#: Runs a file on images, float32 of shape (batch, channels, *spatial); returns its outputs in order.
Runner: TypeAlias = Callable[[Array], list[Array]]
Weights: TypeAlias = Literal["dense", "factors"]
Dtype: TypeAlias = Literal["float32", "float16", "int8"]
Execution: TypeAlias = Literal["dense", "fast", "auto"]


@dataclass(frozen=True)
class Job:
    """What a format is asked to write.

    Attributes:
        prepared: The network.
        content: What the file says of itself, with its `weights` and `dtype`.
        tell: Is called with what is done.
        calibration: Batches of images from which the ranges of activations are taken, for int8.
    """

    prepared: Prepared
    content: Content
    tell: Callable[[str], object] = str
    calibration: Iterable[Tensor] | None = None


class Format(ABC):
    """A format. A file in `export/formats/` that defines `FORMAT` is registered by being there."""

    #: Its name on the command line.
    name: ClassVar[str]
    #: What `seclcompress export --help` says of it.
    summary: ClassVar[str]
    #: What a page calls it.
    title: ClassVar[str]
    #: The ending of the file that is named.
    suffix: ClassVar[str]
    #: The endings of files of the same name that `write` makes beside it.
    beside: ClassVar[tuple[str, ...]] = ()
    #: What runs the file.
    runtime: ClassVar[str]
    #: Whether the file can be run without a person's own script.
    runs: ClassVar[bool] = True
    #: The packages that it needs, beside those that seclcompress always needs, as they are imported.
    packages: ClassVar[tuple[str, ...]] = ()
    #: The extra of seclcompress that brings them.
    extra: ClassVar[str] = ""
    #: The `--weights` and `--dtype` that go together.
    offers: ClassVar[dict[str, tuple[str, ...]]] = {"dense": ("float32", "float16")}
    #: Those that go together with layers that run fast.
    offers_fast: ClassVar[dict[str, tuple[str, ...]]] = {}

    #: Whether batch norm is folded into the layers before it.
    folds: ClassVar[bool] = True

    def executions(self) -> tuple[str, ...]:
        """The executions of `cost.EXECUTIONS` that a layer can have in its files.

        `write` gets a network whose layers are in one of them (`StructuredLayer.ready`). A runtime that
        has a fast transform as an operation says so here, and plans for it can then choose `fast`.
        """
        return ("dense",)

    @abstractmethod
    def write(self, job: Job) -> Written:
        """Makes the bytes of a network in this format; writes nothing.

        Raises:
            ExportError: If the network cannot be written in this format.
        """

    @abstractmethod
    def load(self, path: Path, *, threads: int, fold: bool = True) -> Runner:
        """Loads a file into its runtime.

        Args:
            path: A file that `write` has made.
            threads: The threads that it may use.
            fold: Whether the runtime may compute constants at load, where it can be told.
        """

    def runner(self, path: Path, job: Job, *, threads: int) -> Runner:  # noqa: ARG002
        """Runs a file that has just been written, for its verification; by default as `load`."""
        return self.load(path, threads=threads)

    @abstractmethod
    def content(self, path: Path) -> Content:
        """What a file says of itself.

        Raises:
            ArtefactError: If it is damaged, or this program did not write it.
        """

    def needs_images(self, weights: str, dtype: str) -> bool:  # noqa: ARG002
        """Whether it calibrates with images; by default not."""
        return False

    def version(self) -> str:
        """The runtime and its version."""
        return f"{self.runtime} {importlib.metadata.version(self.runtime)}"

    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return extras.missing(*self.packages)

    @property
    def endings(self) -> tuple[str, ...]:
        """The endings of all files that `write` makes; the first is that of the file that is named."""
        return (self.suffix, *self.beside)

    def files(self, path: Path) -> list[Path]:
        """The files that belong to the one that is named, which is the first; those that are there."""
        beside = (path.with_suffix(ending) for ending in self.beside)
        return [path, *(file for file in beside if file.is_file())]

    def check(
        self, task: str, weights: str = "dense", dtype: str = "float32", execution: str = "dense"
    ) -> None:
        """Checks that this format has what is asked of it.

        Args:
            task: What needs it, as a person names it, for the message on missing packages.
            weights: `dense` or `factors`.
            dtype: How numbers are stored.
            execution: `dense`, or `fast` or `auto` for layers that may run fast.

        Raises:
            UsageError: If it does not have these weights in this dtype, or no layers that run fast, or
                packages are missing.
        """
        asked, offers = "", self.offers
        if execution != "dense":
            asked, offers = f"--execution {execution} ", self.offers_fast
        if not offers:
            raise UsageError(
                f"--format {self.name} has no {asked}: its runtime has no operation for a fast "
                "transform. --execution dense writes the layers multiplied out."
            )
        if dtype not in offers.get(weights, ()):
            have = "; ".join(
                f"{asked}--weights {w} --dtype {'|'.join(d)}" for w, d in offers.items()
            )
            raise UsageError(
                f"--format {self.name} has no {asked}--weights {weights} with --dtype {dtype}. "
                f"It has: {have}."
            )
        extras.need(task, self.extra, *self.packages)
