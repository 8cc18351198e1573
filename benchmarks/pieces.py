"""Long work in pieces: each folder is made once, and a run that was interrupted goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TextIO

from seclcompress.observer import Observer
from seclcompress.settings.training import TrainingSettings, in_pairs
from seclcompress.workflows.output import Output


class Log(Observer):
    """Writes a line for all that happens."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream

    def message(self, words: str) -> None:
        """A line."""
        print(words, file=self._stream, flush=True)

    def run_begins(self, settings: TrainingSettings, leave_out: Collection[str]) -> None:
        """All settings in a line."""
        self.message(", ".join(f"{k}={v}" for k, v in settings if k not in leave_out))

    def before(self, accuracies: dict[str, float]) -> None:
        """A line."""
        self.message(f"before: {in_pairs(accuracies)}")

    def epoch(self, record: dict[str, Any]) -> None:
        """The epoch's figures in a line."""
        self.message(in_pairs(record))


def make(folder: Path, run: Callable[..., object], log: Log, **arguments: Any) -> None:
    """Makes a folder by `workflows`' train or distill, unless it is there already."""
    if folder.exists():
        return
    log.message(f"Making {folder} …")
    goes_on = Output(folder).partial.exists()
    run(output_dir=folder, resume=goes_on, observer=log, **arguments)
