"""The clock of a runtime other than torch: layers as files of one layer, timed in turn."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from seclcompress.errors import ArtefactError, ExportError
from seclcompress.export.contract import Format
from seclcompress.export.race import as_file, formats_of
from seclcompress.measure import MIN_SECONDS, ROUNDS, Clock, TorchClock
from seclcompress.settings.planning import TORCH
from seclcompress.timing import REST, Timing, alternate


@dataclass(frozen=True)
class FileClock:
    """A `measure.Clock` of the runtime that runs a format's files.

    The seconds are those of a network of one layer: they include the call itself, and where the runtime
    computes in another layout the way there and back. Both are the same for all candidates of a layer.

    Attributes:
        format: The format.
    """

    format: Format

    @property
    def runtime(self) -> str:
        """The runtime's name."""
        return self.format.runtime

    @property
    def executions(self) -> tuple[str, ...]:
        """The executions that a layer can have in the format's files."""
        return self.format.executions()

    def about(self) -> dict[str, Any]:
        """The runtime with its version, and how its sessions are kept apart."""
        return {"runtime": self.format.version(), "rest": REST}

    def time(self, candidates: Mapping[str, nn.Module], x: Tensor) -> dict[str, Timing]:
        """Writes, loads and times modules in turn; see `measure.Clock`. Inputs and weights are float32.

        Raises:
            ExportError: If a module cannot be written in the format, or the runtime cannot load it.
        """
        images = x.float().numpy()
        runs = {}
        with tempfile.TemporaryDirectory() as folder:
            for name, module in candidates.items():
                path = Path(folder) / f"{name}{self.format.suffix}"
                try:
                    run = as_file(self.format, module.float(), path, tuple(x.shape[1:]))
                    run(images)
                except (ArtefactError, ExportError) as error:
                    raise ExportError(
                        f"A layer ({name}) cannot be timed in {self.runtime} for an input of "
                        f"{'×'.join(map(str, x.shape))}: {error} Keep such layers with --keep, or plan "
                        "by another --runtime."
                    ) from error
                runs[name] = functools.partial(run, images)
            return alternate(runs, rounds=ROUNDS, min_seconds=MIN_SECONDS, rest=REST)


def clock_of(runtime: str | None, *, channels_last: bool = False) -> Clock:
    """The clock of a runtime.

    Args:
        runtime: Its name; None for torch.
        channels_last: Whether torch runs images in that layout. Other runtimes choose their own.

    Raises:
        UsageError: If there is no such runtime, or its packages are not installed.
    """
    if runtime is None or runtime == TORCH:
        return TorchClock(channels_last)
    return FileClock(formats_of([runtime])[runtime])
