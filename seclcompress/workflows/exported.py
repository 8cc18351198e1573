"""Exported files as networks that can be evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from seclcompress import export as formats
from seclcompress import hub
from seclcompress.errors import ArtefactError, UsageError
from seclcompress.export.content import Content
from seclcompress.export.contract import Format, Runner
from seclcompress.export.verify import run_in_batches
from seclcompress.preprocessing import Preprocessing
from seclcompress.workflows.held_out import Share


class RunsFile(nn.Module):
    """A file in its runtime, in the place of a network.

    Args:
        runner: What runs it.
        batch: The number of images that it takes; None for any.
    """

    def __init__(self, runner: Runner, batch: int | None) -> None:
        super().__init__()
        self._runner, self._batch = runner, batch

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Runs the file on images of shape (batch, channels, *spatial)."""
        outputs = run_in_batches(self._runner, images.float().cpu().numpy(), self._batch)
        tensors = tuple(torch.from_numpy(output) for output in outputs)
        return tensors[0] if len(tensors) == 1 else tensors


@dataclass(frozen=True)
class ExportedFile:
    """An exported file that a person names in the place of a network.

    Attributes:
        label: What the person typed.
        path: The file.
        format: Its format.
        content: What it says of itself.
    """

    label: str
    path: Path
    format: Format
    content: Content

    @property
    def input_size(self) -> tuple[int, ...]:
        """(channels, *spatial)."""
        return self.content.input_size

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.path.parent

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How its images become inputs, if it is known."""
        return self.content.preprocessing

    @property
    def classes(self) -> list[str] | None:
        """The names of its classes, if they are known."""
        return self.content.classes

    @property
    def held_out(self) -> Share | None:
        """What was held out when its network was trained."""
        data, share = self.content.data, self.content.validation
        return None if data is None or share is None else Share(data, share)

    def load(self, threads: int | None = None) -> RunsFile:
        """Loads it into its runtime.

        Args:
            threads: The threads that it may use; by default as many as torch.
        """
        threads = threads or torch.get_num_threads()
        return RunsFile(self.format.load(self.path, threads=threads), self.content.batch)


def find_file(typed: object, command: str) -> ExportedFile | None:
    """An exported file, if that is what a person names; None for a folder or a network's name.

    Args:
        typed: What the person typed.
        command: The command that they typed it for, for messages.

    Raises:
        ArtefactError: If it ends like an exported file and is not there, or is damaged.
        UsageError: If the packages that read it are missing.
    """
    if not isinstance(typed, str | Path) or hub.is_reference(typed):
        return None
    path, format = Path(typed), formats.of_file(typed)
    if format is None or path.is_dir():
        return None
    if not path.is_file():
        raise ArtefactError(f"There is no file {typed}.")
    format.check(f"{command} {typed}")
    return ExportedFile(str(typed), path, format, format.content(path))


def check_runs_as_it_is(file: ExportedFile, flags: Sequence[str]) -> None:
    """Refuses options that change nothing in a file.

    Args:
        file: The file.
        flags: The options that the person gave and that a file does not have, such as `--depth`.

    Raises:
        UsageError: If there are some.
    """
    if flags:
        raise UsageError(
            f"{file.label} is an exported file, which is run as it is: drop {', '.join(flags)}."
        )
