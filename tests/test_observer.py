"""Observers: methods do nothing by default, and `Several` passes every report on."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from seclcompress.observer import Observer, Several
from seclcompress.settings.training import TrainingSettings


class Keeping(Observer):
    """Records all reports."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def message(self, words: str) -> None:
        self.told.append(words)

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        self.told.append(words)
        yield self.told.append
        self.told.append("done")

    @contextlib.contextmanager
    def counting(self, words: str, total: int) -> Iterator[Callable[[int, int], object]]:
        self.told.append((words, total))
        yield lambda *counts: self.told.append(counts)

    def decoding(self, data: str, done: int, total: int) -> None:
        self.told.append((data, done, total))

    def run_begins(self, settings: TrainingSettings, leave_out: Any) -> None:
        self.told.append((settings, leave_out))

    def start(self, epochs: int, steps: int, finished: int) -> None:
        self.told.append((epochs, steps, finished))

    def before(self, accuracies: dict[str, float]) -> None:
        self.told.append(accuracies)

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        self.told.append((epoch, images, loss, lr))

    def epoch(self, record: dict[str, Any]) -> None:
        self.told.append(record)


def tell_all(observer: Observer) -> None:
    observer.message("one")
    with observer.working("two") as now:
        now("three")
    with observer.counting("four", 5) as done:
        done(1, 5)
    observer.decoding("digits", 6, 7)
    observer.run_begins(TrainingSettings(), ("beta",))
    observer.start(8, 9, 10)
    observer.before({"teacher": 11.0})
    observer.step(12, 13, 0.5, 0.1)
    observer.epoch({"epoch": 14})


def test_several_are_told_what_one_is() -> None:
    one, first, second = Keeping(), Keeping(), Keeping()
    tell_all(one)
    tell_all(Several(first, second))
    assert len(one.told) == 12
    assert first.told == second.told == one.told
    tell_all(Observer())
    tell_all(Several())


def test_several_hand_on_all_that_there_is() -> None:
    """Otherwise reports to a method that is new in `Observer` would be lost."""
    for name, _ in inspect.getmembers(Observer, inspect.isfunction):
        assert name.startswith("_") or name in vars(Several), name
