"""Long work in pieces: each folder is made once, and an interrupted run is resumed."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
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


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of results, a JSON object each; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Cells:
    """The finished cells of a table, a line of JSON each, so that a stopped table goes on.

    Args:
        file: Its lines have what names a cell, and what was found for it. A last line that was cut off
            while it was written does not count, and is removed.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        #: What names each finished cell, and what was found for it.
        self.finished: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._found: dict[str, dict[str, Any]] = {}
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            file.write_text(whole, encoding="utf-8")
        for line in whole.splitlines():
            kept = json.loads(line)
            self._keep(kept["cell"], kept["found"])

    def get(self, cell: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was found for a cell; None if it is not finished."""
        return self._found.get(_key(cell))

    def fill(self, cell: Mapping[str, Any], work: Callable[[], dict[str, Any]]) -> bool:
        """Does a cell's work and keeps what it finds; returns whether it was still to be done."""
        if self.get(cell) is not None:
            return False
        found = work()
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"cell": cell, "found": found}) + "\n")
        self._keep(dict(cell), found)
        return True

    def _keep(self, cell: dict[str, Any], found: dict[str, Any]) -> None:
        self.finished.append((cell, found))
        self._found[_key(cell)] = found


def check_same(work: Path, settings: Mapping[str, Any]) -> None:
    """Refuses a folder of runs that had other settings, and notes those of this one.

    Args:
        work: The folder, which is there.
        settings: What all runs of the folder have in common, as JSON values.
    """
    path = work / "settings.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != settings:
        sys.exit(f"The runs in {work} are by {path.read_text()}: choose another --work.")
    path.write_text(json.dumps(settings), encoding="utf-8")


def _key(cell: Mapping[str, Any]) -> str:
    return json.dumps(cell, sort_keys=True)


def spread(values: Sequence[float]) -> str:
    """Mean, and the lowest and the highest."""
    return f"{statistics.fmean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
