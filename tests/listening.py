"""An observer for tests: it keeps what it is told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from seclcompress.observer import Observer


class Listening(Observer):
    """Keeps messages, what was being worked on, and what was decided."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.work: list[str] = []
        self.decisions: list[tuple[str, Any, Any]] = []

    def message(self, words: str) -> None:
        self.messages.append(words)

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        self.work.append(words)
        yield self.work.append

    @contextlib.contextmanager
    def counting(self, words: str, total: int) -> Iterator[Callable[[int, int], object]]:
        self.work.append(f"{words}: {total}")
        yield lambda done, whole: self.work.append(f"{words}: {done} of {whole}")

    def decided(self, label: str, plan: Any, counted: Any) -> None:
        self.decisions.append((label, plan, counted))
