"""The files of a run in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
from runs import (
    Stopping,
    digits,
    trainer,
)

from seclcompress.data import Data, load_data
from seclcompress.errors import ArtefactError
from seclcompress.train import BEST, Stopped, evaluate
from seclcompress.train.record import best_of, is_over


@pytest.fixture
def data() -> Data:
    return digits()


def test_a_full_disk_is_an_error_of_ours(tmp_path: Path, data: Data, monkeypatch) -> None:
    with pytest.raises(Stopped):
        trainer(tmp_path, data, Stopping(5)).run()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        again = trainer(tmp_path, data)
        again.resume()
        with pytest.raises(ArtefactError, match="No space left"):
            again.run()
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    again = trainer(tmp_path, data)
    again.resume()
    again.run()


def test_the_best_epoch_is_chosen_on_the_validation_images(tmp_path: Path) -> None:
    data = load_data("digits", (3, 8, 8), train_images=200, validation=0.1)
    run = trainer(tmp_path, data, epochs=6, lr=0.5)
    history = run.run()
    best = best_of(history)
    # Otherwise the test could not tell the best epoch from the last; a seed may change that.
    assert best is not history[-1]
    assert best["validation_accuracy"] == max(r["validation_accuracy"] for r in history)
    run.network.load_state_dict(safetensors.torch.load_file(tmp_path / BEST))
    held = evaluate(run.network, data, images=data.validation)
    assert (held.images, held.accuracy) == (142, best["validation_accuracy"])
    assert held.loss == pytest.approx(best["validation_loss"], rel=1e-4)
    tested = evaluate(run.network, data)
    assert (tested.images, tested.accuracy) == (360, best["accuracy"])
    assert tested.loss == pytest.approx(best["test_loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("accuracies", "patience", "over"),
    [
        ([], 1, False),
        ([50], 1, False),
        ([50, 50], 1, True),  # as good is not better
        ([50, 60], 1, False),
        ([50, 60, 59], 2, False),
        ([50, 60, 59, 60], 2, True),
        ([50, 60, 59, 61], 2, False),
        ([50, 40, 30, 20], None, False),
        ([50, 60, 70, 80, 90], 9, True),  # all epochs
        ([50, 40, 30, 20, 10], None, True),
    ],
)
def test_patience_ends(accuracies: list[float], patience: int | None, over: bool) -> None:
    history = [
        {"epoch": number, "validation_accuracy": accuracy}
        for number, accuracy in enumerate(accuracies, 1)
    ]
    assert is_over(history, 5, patience) == over
