"""Who is told what happens during long work. The command line draws it; in Python nobody need listen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


class Observer:
    """Every method does nothing until a subclass draws it."""

    def message(self, words: str) -> None:
        """Something that a person should know: what was assumed, written or left out."""

    def decided(self, label: str, plan: Any, counted: Any) -> None:
        """A conversion is decided; nothing is written yet.

        Args:
            label: The network, as the person named it.
            plan: What becomes of each layer (a `plan.Plan`).
            counted: The figures before and after (a `count.Count`).
        """

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        """Work that takes a while and has no known end.

        Args:
            words: What is being done.

        Yields:
            A function that is told what is being done now.
        """
        del words
        yield str

    @contextlib.contextmanager
    def counting(self, words: str, total: int) -> Iterator[Callable[[int, int], object]]:
        """Work of a known size.

        Args:
            words: What is being done.
            total: To how many things.

        Yields:
            A function that is told how many of how many are done.
        """
        del words, total
        yield lambda *_: None

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """A run of `epochs` epochs of `steps` steps begins, `finished` of all steps done before."""

    def before(self, accuracies: dict[str, float]) -> None:
        """Before the first step so much is right, in percent; only with a teacher."""

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        """A step over `images` images is done; epochs count from 1."""

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is done and saved; the record is its line of metrics.jsonl."""
