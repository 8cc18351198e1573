"""The observer that long work reports to. The command line shows its reports; a script's are logged."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator
from typing import Any

from seclcompress.settings.training import TrainingSettings


class Observer:
    """Receives reports about long work. Every method does nothing unless a subclass overrides it."""

    def message(self, words: str) -> None:
        """Reports a fact that the user should know: what was assumed, written or left out."""

    def decided(self, label: str, plan: Any, counted: Any) -> None:
        """Reports that a conversion is decided. Nothing is written yet.

        Args:
            label: The network, as the user named it.
            plan: The `plan.Plan` that says what becomes of each layer.
            counted: The `count.Count` with the figures before and after.
        """

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        """Encloses work of unknown length.

        Args:
            words: A description of the work.

        Yields:
            A function to call with a description of the current part of the work.
        """
        del words
        yield str

    @contextlib.contextmanager
    def counting(self, words: str, total: int) -> Iterator[Callable[[int, int], object]]:
        """Encloses work on a known number of items.

        Args:
            words: A description of the work.
            total: The number of items.

        Yields:
            A function to call with the number of items done and the total.
        """
        del words, total
        yield lambda *_: None

    def decoding(self, data: str, done: int, total: int) -> None:
        """Reports how many images of a data set are decoded.

        The last call always has `done` equal to `total`, even if decoding ended with an error, so that
        a progress display can close.

        Args:
            data: The name of the data set.
            done: Images decoded so far.
            total: Images to decode.
        """

    def run_begins(self, settings: TrainingSettings, leave_out: Collection[str]) -> None:
        """Reports that a training run is about to begin.

        Args:
            settings: The settings of the run.
            leave_out: Names of settings that this run does not use.
        """

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """Reports the start of the steps of a run.

        Args:
            epochs: Epochs of the whole run.
            steps: Steps per epoch.
            finished: Steps of the whole run that were done before it was resumed.
        """

    def before(self, accuracies: dict[str, float]) -> None:
        """Reports the accuracies before the first step, in percent by name; only with a teacher."""

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        """Reports a finished step.

        Args:
            epoch: Counted from 1.
            images: Images in the step, over all processes.
            loss: The mean loss over them.
            lr: The learning rate of a parameter group whose share is 1.
        """

    def epoch(self, record: dict[str, Any]) -> None:
        """Reports an epoch that is done and saved; the record is its line of metrics.jsonl."""


class Several(Observer):
    """Passes every report on to several observers, in their order.

    Args:
        observers: The observers to pass reports on to.
    """

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def message(self, words: str) -> None:
        """Passes the report on."""
        for observer in self._observers:
            observer.message(words)

    def decided(self, label: str, plan: Any, counted: Any) -> None:
        """Passes the report on."""
        for observer in self._observers:
            observer.decided(label, plan, counted)

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        """Passes the report on."""
        with contextlib.ExitStack() as stack:
            told = [stack.enter_context(one.working(words)) for one in self._observers]
            yield lambda words: [tell(words) for tell in told]

    @contextlib.contextmanager
    def counting(self, words: str, total: int) -> Iterator[Callable[[int, int], object]]:
        """Passes the report on."""
        with contextlib.ExitStack() as stack:
            told = [stack.enter_context(one.counting(words, total)) for one in self._observers]
            yield lambda done, whole: [tell(done, whole) for tell in told]

    def decoding(self, data: str, done: int, total: int) -> None:
        """Passes the report on."""
        for observer in self._observers:
            observer.decoding(data, done, total)

    def run_begins(self, settings: TrainingSettings, leave_out: Collection[str]) -> None:
        """Passes the report on."""
        for observer in self._observers:
            observer.run_begins(settings, leave_out)

    def start(self, epochs: int, steps: int, finished: int) -> None:
        """Passes the report on."""
        for observer in self._observers:
            observer.start(epochs, steps, finished)

    def before(self, accuracies: dict[str, float]) -> None:
        """Passes the report on."""
        for observer in self._observers:
            observer.before(accuracies)

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        """Passes the report on."""
        for observer in self._observers:
            observer.step(epoch, images, loss, lr)

    def epoch(self, record: dict[str, Any]) -> None:
        """Passes the report on."""
        for observer in self._observers:
            observer.epoch(record)


class _AfterChecks(Several):
    """Holds facts back until it is released."""

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self._held: list[str] | None = []

    def message(self, words: str) -> None:
        """Keeps the fact, or passes it on after the release."""
        if self._held is None:
            super().message(words)
        else:
            self._held.append(words)

    def release(self) -> None:
        """Passes on what was held back, and from now on everything at once."""
        held, self._held = self._held or [], None
        for words in held:
            super().message(words)


@contextlib.contextmanager
def after_checks(observer: Observer) -> Iterator[Observer]:
    """Holds facts back while a block checks what was asked for; all other reports are passed on at once.

    An error in the block drops them. It would make them false ("The pictures of X are resized …", and
    there is no X), or bury itself among them.

    Args:
        observer: The observer that is told at the end of the block.

    Yields:
        The observer for the block.
    """
    held = _AfterChecks(observer)
    yield held
    held.release()


class Logging(Observer):
    """Writes what a person would read to the logger `seclcompress`; nothing is shown without a handler.

    Facts and epochs are information, the parts of long work are for debugging.
    """

    _log = logging.getLogger("seclcompress")

    def message(self, words: str) -> None:
        """Logs the fact."""
        self._log.info("%s", words)

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        """Logs the work and its parts."""
        self._log.debug("%s", words)
        yield lambda now: self._log.debug("%s", now)

    @contextlib.contextmanager
    def counting(self, words: str, total: int) -> Iterator[Callable[[int, int], object]]:
        """Logs the work and each item."""
        self._log.debug("%s: %d", words, total)
        yield lambda done, whole: self._log.debug("%s: %d of %d", words, done, whole)

    def before(self, accuracies: dict[str, float]) -> None:
        """Logs the accuracies."""
        self._log.info("before the first step: %s", _figures(accuracies))

    def epoch(self, record: dict[str, Any]) -> None:
        """Logs the record."""
        self._log.info("%s", _figures(record))


def _figures(record: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in record.items())
