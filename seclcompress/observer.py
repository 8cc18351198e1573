"""Who is told what happens during long work. The command line draws it; in Python nobody need listen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

from seclcompress.settings.training import TrainingSettings


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

    def decoding(self, data: str, done: int, total: int) -> None:
        """So many of a data set's images are decoded; all of them where it ends, even by an error."""

    def run_begins(self, settings: TrainingSettings, leave_out: Collection[str]) -> None:
        """A training run is about to begin.

        Args:
            settings: Of the run.
            leave_out: Names of settings that it has no use for.
        """

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """A run of `epochs` epochs of `steps` steps begins, `finished` of all steps done before."""

    def before(self, accuracies: dict[str, float]) -> None:
        """Before the first step so much is right, in percent; only with a teacher."""

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        """A step over `images` images is done; epochs count from 1."""

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is done and saved; the record is its line of metrics.jsonl."""


class Several(Observer):
    """Tells several observers, in their order.

    Args:
        observers: Are told all.
    """

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def message(self, words: str) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.message(words)

    def decided(self, label: str, plan: Any, counted: Any) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.decided(label, plan, counted)

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        """Tells all."""
        with contextlib.ExitStack() as stack:
            told = [stack.enter_context(one.working(words)) for one in self._observers]
            yield lambda words: [tell(words) for tell in told]

    @contextlib.contextmanager
    def counting(self, words: str, total: int) -> Iterator[Callable[[int, int], object]]:
        """Tells all."""
        with contextlib.ExitStack() as stack:
            told = [stack.enter_context(one.counting(words, total)) for one in self._observers]
            yield lambda done, whole: [tell(done, whole) for tell in told]

    def decoding(self, data: str, done: int, total: int) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.decoding(data, done, total)

    def run_begins(self, settings: TrainingSettings, leave_out: Collection[str]) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.run_begins(settings, leave_out)

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.start(epochs, steps, finished)

    def before(self, accuracies: dict[str, float]) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.before(accuracies)

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.step(epoch, images, loss, lr)

    def epoch(self, record: dict[str, Any]) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.epoch(record)
