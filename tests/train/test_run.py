"""A run learns, every setting has an effect, and errors stop the run with a message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import (
    Silent,
    data_of,
    digits,
    distiller,
    same_weights,
    small,
    trainer,
)
from torch import nn

from seclcompress.data import Data, load_data
from seclcompress.data.in_memory import Decoded
from seclcompress.errors import DataError, TrainingError
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import Trainer, evaluate


@pytest.fixture
def data() -> Data:
    return digits()


def test_it_learns_and_keeps_a_record(tmp_path: Path, data: Data) -> None:
    observer = Silent()
    run = trainer(tmp_path, data, observer, epochs=8)
    history = run.run()
    assert observer.started == (8, 4, 0)
    assert len(observer.steps) == 32
    assert history[-1]["accuracy"] > 60
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert history[0]["train_loss"] == pytest.approx(sum(observer.steps[:4]) / 4)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == history
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert history[-1]["lr"] < history[0]["lr"] < 0.05
    assert all(line["seconds"] >= line["loading_seconds"] >= 0 for line in lines)
    tested = evaluate(run.network, data)
    assert tested.accuracy == history[-1]["accuracy"]
    assert tested.loss == pytest.approx(history[-1]["test_loss"], rel=1e-4)


def test_the_process_is_left_as_it_was(tmp_path: Path, data: Data) -> None:
    torch.set_flush_denormal(False)  # a library that an earlier test loaded may have switched it on
    tiny = torch.tensor([5e-324], dtype=torch.float64)
    inside: list[bool] = []
    run = trainer(tmp_path, data, epochs=1)
    run.network[2].register_forward_hook(lambda *_: inside.append(bool((tiny * 1 == 0).all())))
    run.run()
    assert all(inside)
    assert (tiny * 1 != 0).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"beta": 1000.0},
        {"alpha": 0.9},
        {"label_smoothing": 0.2},
        {"mixup": 0.3},
        {"cutmix": 1.0},
        {"cutout": 3},
        {"crop": True},
        {"flip": True},
        {"randaugment": 9},
        {"factor_lr": 3.0},
        {"factor_decay": "product", "weight_decay": 0.1},
        {"factor_decay": 0.1},
        {"factor_optimizer": "same"},
        {"warmup_epochs": 1.0},
        {"lr_scheduler": "step"},
        {"momentum": 0.0},
        {"seed": 1},
    ],
)
def test_every_setting_changes_what_is_learnt(tmp_path: Path, settings: dict[str, Any]) -> None:
    pixels = (load_data("digits", (3, 8, 8)).train.pixels[:200] * 255).byte()  # type: ignore[attr-defined]
    some = Decoded(pixels, torch.arange(200) % 10)
    data = data_of(some, some, list("0123456789"), (3, 8, 8))
    shared = {"alpha": 0.0, "beta": 0.0, "taps": ("2",), "epochs": 2}
    ends = []
    for name, changed in (("a", {}), ("b", settings)):
        run = distiller(tmp_path / name, data, **{**shared, **changed})
        run.run()
        ends.append(run.network)
    assert not same_weights(*ends)


def test_the_ratio_rule_knows_the_original(tmp_path: Path, data: Data) -> None:
    settings = TrainingSettings(weight_decay=1e-3)
    network = small()
    mine = sum(p.numel() for p in network.parameters())
    run = Trainer(
        network, data, settings, tmp_path, original_parameters=10 * mine, observer=Silent()
    )
    decays = [group["weight_decay"] for o in run.optimizers for group in o.param_groups]
    assert decays == [1e-3, pytest.approx(1e-4)]


def test_layers_of_other_dimensions(tmp_path: Path, data: Data) -> None:
    """channels_last applies to 4-dimensional weights only."""
    network = nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10)
    )
    Trainer(network, data, TrainingSettings(epochs=1), tmp_path, observer=Silent()).run()


def test_what_cannot_be_trained(tmp_path: Path, data: Data) -> None:
    frozen = small().requires_grad_(False)
    with pytest.raises(TrainingError, match="parameters are frozen"):
        Trainer(frozen, data, TrainingSettings(), tmp_path, observer=Silent())
    pixels = torch.zeros(4, 3, 8, 8)
    whole = Decoded(pixels, torch.arange(4))
    strange = data_of(whole, whole, ["a", "b"], (3, 8, 8))
    with pytest.raises(DataError, match="training images with labels from 0 to 3, but 2 classes"):
        Trainer(small(), strange, TrainingSettings(), tmp_path, observer=Silent())
    none = data_of(whole, Decoded(pixels[:0], torch.arange(0)), list("abcdefghij"), (3, 8, 8))
    with pytest.raises(DataError, match="has no test images"):
        Trainer(small(), none, TrainingSettings(), tmp_path, observer=Silent())
    few = data_of(whole, whole, list("abcd"), (3, 8, 8))
    with pytest.raises(DataError, match="at hand has 4 classes, but the network has 10 outputs"):
        Trainer(small(), few, TrainingSettings(), tmp_path, observer=Silent())
    one = data_of(Decoded(pixels[:1], torch.zeros(1).long()), whole, list("abcdefghij"), (3, 8, 8))
    accumulated = Trainer(small(), one, TrainingSettings(accumulate=2), tmp_path, observer=Silent())
    with pytest.raises(TrainingError, match=r"too few training images \(1\)"):
        accumulated.run()
