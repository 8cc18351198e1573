"""Which images judge a run: with held-out ones, the test images choose nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from runs import Listening, Silent, Stopping, digits, distiller, same_weights, trainer

from seclcompress.data import Batch, Data, load_data
from seclcompress.data.in_memory import Decoded
from seclcompress.errors import UnsuitableSettingsError, UsageError
from seclcompress.train import BEST, METRICS, Stopped, evaluate
from seclcompress.train.judge import Judge
from seclcompress.train.record import best_of

TIMING = {"seconds": 0, "loading_seconds": 0, "images_per_second": 0}


class Counted(Decoded):
    """Images that count how often all of them are read."""

    reads = 0

    def read(self, *arguments: Any) -> Iterator[Batch]:
        self.reads += 1
        return super().read(*arguments)


@pytest.fixture
def data() -> Data:
    found = load_data("digits", (3, 8, 8), train_images=200, validation=0.1)
    assert isinstance(found.test, Decoded)
    counted = Counted(found.test.pixels, found.test.labels)
    return dataclasses.replace(found, open_test=lambda: counted)


def reads(data: Data) -> int:
    assert isinstance(data.test, Counted)
    return data.test.reads


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_the_test_images_are_looked_at_once_at_the_end(tmp_path: Path, data: Data) -> None:
    seen: list[int] = []

    class Counting(Silent):
        def epoch(self, record: dict[str, float]) -> None:
            seen.append(reads(data))

    run = trainer(tmp_path, data, Counting(), epochs=6, lr=0.5)
    history = run.run()
    best = best_of(history)
    assert best is not history[-1]  # a seed may change that
    assert seen == [0] * 5 + [2], "with the last weights and with the best"
    assert [record["epoch"] for record in history if "accuracy" in record] == [best["epoch"], 6]
    assert all("test_loss" in record for record in history if "accuracy" in record)
    assert lines(tmp_path) == history
    assert evaluate(run.network, data).accuracy == history[-1]["accuracy"], "the last are saved"


def test_a_best_epoch_that_is_the_last_is_tested_once(tmp_path: Path, data: Data) -> None:
    trainer(tmp_path, data, epochs=1).run()
    assert reads(data) == 1


def test_without_held_out_images_the_test_images_judge_each_epoch(tmp_path: Path) -> None:
    history = trainer(tmp_path, digits(), epochs=2).run()
    assert all("accuracy" in record and "validation_accuracy" not in record for record in history)


def test_a_teacher_is_measured_before(tmp_path: Path, data: Data) -> None:
    run = distiller(tmp_path, data, epochs=1)
    run.run()
    assert reads(data) == 3  # teacher, student before, student after
    assert run.progress.before["teacher"] == evaluate(run.teacher.network, data).accuracy  # type: ignore[union-attr]


#: The weights stay, and batch norm's statistics settle: four epochs, of which the second is the best.
STILL = {"epochs": 9, "lr": 1e-12, "factor_lr": 1e-9, "patience": 2}


class TestPatience:
    @pytest.mark.parametrize("ema", [0.0, 0.5])
    def test_the_best_network_is_saved(self, tmp_path: Path, data: Data, ema: float) -> None:
        told = Listening()
        run = trainer(tmp_path, data, told, epochs=40, lr=0.5, patience=2, ema=ema)
        history = run.run()
        best = best_of(history)
        assert len(history) == best["epoch"] + 2 < 40
        assert len(told.epochs) == len(history)
        assert told.words[-1].startswith(f"Ended after epoch {len(history)} of 40, as none since")
        assert "(--patience 2)" in told.words[-1]
        saved = safetensors.torch.load_file(tmp_path / BEST)
        mine = run.network.state_dict()
        assert saved.keys() == mine.keys()
        assert all(torch.equal(saved[name], mine[name]) for name in saved)
        held = evaluate(run.network, data, images=data.validation)
        assert held.accuracy == best["validation_accuracy"]
        assert evaluate(run.network, data).accuracy == best["accuracy"]

    @pytest.mark.parametrize("stop_after", [2, 9, 16])
    def test_stopped_and_resumed(self, tmp_path: Path, data: Data, stop_after: int) -> None:
        """16 steps are all four epochs, the last of which is then judged after the run is resumed."""
        whole = trainer(tmp_path / "whole", data, **STILL)
        expected = whole.run()
        assert [record["epoch"] for record in expected if "accuracy" in record] == [2, 4]
        half = trainer(tmp_path / "half", data, Stopping(stop_after), **STILL)
        with pytest.raises(Stopped):
            half.run()
        again = trainer(tmp_path / "half", data, **STILL)
        again.resume()
        found = again.run()
        assert [{**r, **TIMING} for r in found] == [{**r, **TIMING} for r in expected]
        assert same_weights(whole.network, again.network)

    def test_it_dies_before_the_end(
        self, tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = trainer(tmp_path / "whole", data, **STILL)
        expected = whole.run()

        def die(judge: Judge) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Judge, "end", die)
            with pytest.raises(KeyboardInterrupt):
                trainer(tmp_path / "half", data, **STILL).run()
        assert not any("accuracy" in record for record in lines(tmp_path / "half"))
        told = Silent()
        again = trainer(tmp_path / "half", data, told, **STILL)
        again.resume()
        found = again.run()
        assert told.steps == []
        assert [{**r, **TIMING} for r in found] == [{**r, **TIMING} for r in expected]
        assert lines(tmp_path / "half") == found
        assert same_weights(whole.network, again.network)

    def test_test_images_do_not_decide_when_a_run_ends(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"--patience 3: no images are held out of digits"):
            trainer(tmp_path, digits(), patience=3)


def test_a_loss_that_is_not_finite_names_the_images(tmp_path: Path, data: Data) -> None:
    with pytest.raises(
        UnsuitableSettingsError,
        match=r"The loss on the validation images is (nan|inf) after epoch 1",
    ):
        trainer(tmp_path, data, epochs=1, batch_size=200, lr=1e30).run()
    assert reads(data) == 0
