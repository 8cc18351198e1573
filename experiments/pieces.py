"""Long work in pieces: each folder is made once, and an interrupted run is resumed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TextIO

from seclcompress.observer import Observer
from seclcompress.settings.training import TrainingSettings, in_pairs
from seclcompress.workflows.output import Output


class Log(Observer):
    """An observer that writes a line for every event."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream

    def message(self, words: str) -> None:
        """Writes a message."""
        print(words, file=self._stream, flush=True)

    def run_begins(self, settings: TrainingSettings, leave_out: Collection[str]) -> None:
        """Writes all settings in one line."""
        self.message(", ".join(f"{k}={v}" for k, v in settings if k not in leave_out))

    def before(self, accuracies: dict[str, float]) -> None:
        """Writes the accuracies before training."""
        self.message(f"before: {in_pairs(accuracies)}")

    def epoch(self, record: dict[str, Any]) -> None:
        """Writes the epoch's figures in one line."""
        self.message(in_pairs(record))


def make(folder: Path, run: Callable[..., object], log: Log, **arguments: Any) -> None:
    """Makes a folder with `workflows.train` or `distill`, unless it exists; resumes its run."""
    if folder.exists():
        return
    log.message(f"Making {folder} …")
    goes_on = Output(folder).partial.exists()
    run(output_dir=folder, resume=goes_on, observer=log, **arguments)
