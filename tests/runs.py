"""Small training runs for the tests: a network, 200 digits, and an observer that keeps still."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from seclcompress import substitutions
from seclcompress.data import Data, load_data
from seclcompress.observer import Observer
from seclcompress.preprocessing import Preprocessing
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import Trainer


class Silent(Observer):
    """Keeps what it is told; `stop_after` steps it behaves like a process that dies."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.steps: list[float] = []
        self.started: tuple[int, int, int] | None = None
        self.stop_after = stop_after

    def start(self, epochs: int, steps: int, finished: int) -> None:
        self.started = (epochs, steps, finished)

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        self.steps.append(loss)
        if len(self.steps) == self.stop_after:
            raise KeyboardInterrupt


class Listening(Silent):
    """Records all reports."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(stop_after)
        self.words: list[str] = []
        self.left_out: Collection[str] | None = None
        self.epochs: list[dict[str, float]] = []

    def message(self, words: str) -> None:
        self.words.append(words)

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        self.words.append(words)
        yield str

    def run_begins(self, settings: TrainingSettings, leave_out: Collection[str]) -> None:
        assert settings.crop is not None  # the settings are already completed from the data
        self.left_out = leave_out

    def epoch(self, record: dict[str, float]) -> None:
        self.epochs.append(record)


class Stopping(Silent):
    """Asks the run to stop after some steps, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after
        self.trainer: Trainer | None = None

    def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
        super().step(epoch, images, loss, lr)
        if len(self.steps) == self.after:
            assert self.trainer is not None
            self.trainer.stop()


def small(structured: bool = True) -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, stride=2)
    acdc = substitutions.get("acdc")
    first = acdc.build(conv, acdc.config({"depth": 2})) if structured else conv
    return nn.Sequential(
        first, nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(72, 10)
    )


def digits() -> Data:
    """200 training images and the 360 test images, 8×8."""
    return load_data("digits", (3, 8, 8), train_images=200)


def trainer(folder: Path, data: Data, observer: Silent | None = None, **settings: Any) -> Trainer:
    chosen = TrainingSettings(**{"epochs": 3, "batch_size": 50, "lr": 0.05, **settings})
    made = Trainer(small(), data, chosen, folder, observer=observer or Silent())
    if isinstance(observer, Stopping):
        observer.trainer = made
    return made


def distiller(folder: Path, data: Data, observer: Silent | None = None, **settings: Any) -> Trainer:
    chosen = TrainingSettings(**{"epochs": 1, "batch_size": 50, **settings})
    teacher = small(structured=False)
    return Trainer(
        small(),
        data,
        chosen,
        folder,
        teacher=teacher,
        untrained_teacher=True,
        observer=observer or Silent(),
    )


def data_of(train: Any, test: Any, classes: list[str], input_size: tuple[int, ...]) -> Data:
    """Data from images at hand, as they are."""
    plain = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))
    return Data(
        "at hand",
        lambda: train,
        lambda: test,
        classes,
        input_size,
        plain,
        crop=False,
        flip=False,
    )


def write_noise(folder: Path, classes: list[str], count: int, side: int, suffix: str) -> None:
    """Images of noise in folders train/ and val/, one folder a class."""
    for split in ("train", "val"):
        for name in classes:
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                noise = torch.randint(0, 255, (side, side, 3), dtype=torch.uint8).numpy()
                Image.fromarray(noise).save(folder / split / name / f"{number}.{suffix}")


def same_weights(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)
