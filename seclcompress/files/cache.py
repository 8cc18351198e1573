"""Results that took long, by key, in a JSON file that several programs may write."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from seclcompress.errors import ArtefactError, SeclcompressWarning
from seclcompress.files.write import write_file

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Results by key. What cannot be written is told once, and the work goes on without the file.

    Args:
        path: The file; None keeps the results in memory only.
        sound: Whether what stands in the file is a result; all else in it is dropped.
        what: What is kept, for the warning: "Timings".

    Attributes:
        known: The results.
    """

    def __init__(self, path: Path | None, sound: Callable[[object], bool], what: str) -> None:
        self._path, self._sound, self._what = path, sound, what
        self.known = self._read()

    def keep(self, key: str) -> None:
        """Writes a known result to the file."""
        if self._path is None:
            return
        # Another process may have written meanwhile.
        content = {**self._read(), key: self.known[key]}
        try:
            write_file(self._path, json.dumps(content, indent=0, sort_keys=True).encode())
        except ArtefactError as error:
            warnings.warn(f"{self._what} are not remembered: {error}", SeclcompressWarning, 2)
            self._path = None

    def _read(self) -> dict[str, Value]:
        """Reads the results of earlier work. A damaged file counts as empty."""
        if self._path is None:
            return {}
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(content, dict):
            return {}
        return {key: value for key, value in content.items() if self._sound(value)}
