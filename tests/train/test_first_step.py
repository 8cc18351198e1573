"""A run that begins far above chance is told at its first step, and only then."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from runs import Listening, digits, distiller, trainer
from torch import nn

from seclcompress.data import Data
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import Trainer
from seclcompress.train.first_step import far_from_chance


@pytest.fixture
def data() -> Data:
    return digits()


def told(words: list[str]) -> list[str]:
    return [said for said in words if said.startswith("The loss of the first step")]


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_ten_times_chance(classes: int) -> None:
    chance = math.log(classes)
    assert far_from_chance(chance, classes) is None
    assert far_from_chance(9.99 * chance, classes) is None
    said = far_from_chance(10.01 * chance, classes)
    assert said is not None
    assert f"(ln {classes})" in said


def test_a_network_that_expects_other_pixel_values(tmp_path: Path, data: Data) -> None:
    class From0To255(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 255

    ends = {}
    for name, front in (("as it is", nn.Identity()), ("larger", From0To255())):
        torch.manual_seed(0)
        network = nn.Sequential(front, nn.Flatten(), nn.Linear(192, 10))
        observer = Listening()
        settings = TrainingSettings(epochs=2, batch_size=50, lr=1e-6)
        Trainer(network, data, settings, tmp_path / name, observer=observer).run()
        ends[name] = told(observer.words)
    assert ends["as it is"] == []
    [said] = ends["larger"]
    assert "a network that gives 10 classes the same score has 2.3 (ln 10)" in said
    assert "--preprocessing, --mean, --std" in said


def test_a_resumed_run_does_not_say_it_again(tmp_path: Path, data: Data) -> None:
    def run(observer: Listening) -> Trainer:
        made = trainer(tmp_path, data, observer, checkpoint_seconds=1e-9, lr=1e-6)
        with torch.no_grad():
            made.network[-1].weight.mul_(1000)
        return made

    first, second = Listening(stop_after=2), Listening()
    with pytest.raises(KeyboardInterrupt):
        run(first).run()
    again = trainer(tmp_path, data, second, checkpoint_seconds=1e-9, lr=1e-6)
    again.resume()
    again.run()
    assert (len(told(first.words)), len(told(second.words))) == (1, 0)


def test_a_loss_against_a_teacher_is_no_cross_entropy(tmp_path: Path, data: Data) -> None:
    observer = Listening()
    distiller(tmp_path, data, observer, beta=1e6, taps=("2",), lr=1e-9).run()
    assert observer.steps[0] > 10 * math.log(10)
    assert told(observer.words) == []
