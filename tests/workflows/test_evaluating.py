"""Evaluating through Python."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seclcompress import artefact
from seclcompress.data import load_data
from seclcompress.errors import DataError, UsageError
from seclcompress.observer import Observer
from seclcompress.settings.training import TrainingSettings
from seclcompress.workflows.evaluating import Evaluation, evaluate
from seclcompress.workflows.training import train


class Counting(Observer):
    """Records the reported numbers of images."""

    def __init__(self) -> None:
        self.counted: list[tuple[int, int]] = []
        self.words: list[str] = []

    @contextlib.contextmanager
    def counting(self, words: str, total: int) -> Iterator[Callable[[int, int], object]]:
        self.words.append(f"{words}: {total}")
        yield lambda done, whole: self.counted.append((done, whole))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "resnet"  # not the name of a network
    settings = TrainingSettings(epochs=1, train_images=150)
    train("wrn10_1", data="digits", output_dir=folder, settings=settings)
    return folder


def test_the_figures_are_those_of_the_run(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    observer = Counting()
    settings = TrainingSettings(batch_size=200)
    found = evaluate(trained, data="digits", settings=settings, observer=observer)
    assert isinstance(found, Evaluation)
    expected = artefact.read_config(trained).metrics
    assert found.answers is None
    assert (found.accuracy, found.images) == (expected["accuracy"], 360)
    assert found.loss == pytest.approx(expected["test_loss"], rel=1e-4)
    assert observer.words == ["Evaluating on digits: 360"]
    assert observer.counted == [(200, 360), (360, 360)]
    assert evaluate(str(trained), data="digits", execution="fast").accuracy == found.accuracy
    assert capfd.readouterr() == ("", "")


def test_answers_by_class(trained: Path) -> None:
    found = evaluate(trained, data="digits", by_class=True)
    assert found.answers is not None
    assert found.answers.classes == tuple("0123456789")
    counts = found.answers.counts
    assert sum(counts.values()) == found.images
    right = sum(number for (truth, answer), number in counts.items() if truth == answer)
    assert found.accuracy == pytest.approx(100 * right / found.images)
    # The rows are the true classes: whatever is answered, there are as many images of each.
    of_zero = sum(number for (truth, _), number in counts.items() if truth == 0)
    assert of_zero == int((load_data("digits", (3, 8, 8)).test.labels == 0).sum())


def test_errors_are_in_words() -> None:
    with pytest.raises(DataError, match="digits has 10 classes, but wrn10_1 has 1000 outputs"):
        evaluate("wrn10_1", data="digits", num_classes=1000)
    with pytest.raises(UsageError, match="evaluate knows image classification only"):
        evaluate("r3d_18", data="digits")


def test_a_path_is_a_folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Path is a folder even if a network has its name; the same name as a string is refused."""
    monkeypatch.chdir(tmp_path)
    Path("resnet18").symlink_to(trained)
    with pytest.raises(UsageError, match="'resnet18' is a network and a folder here"):
        evaluate("resnet18", data="digits")
    assert evaluate(Path("resnet18"), data="digits").images == 360
