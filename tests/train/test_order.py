"""The images of the steps of an epoch."""

from __future__ import annotations

from pathlib import Path

import torch
from runs import (
    Silent,
    data_of,
)
from torch import nn

from seclcompress.data import load_data
from seclcompress.data.in_memory import Decoded
from seclcompress.processes import Processes
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import Trainer, accuracy_before, evaluate


def test_too_few_images(tmp_path: Path) -> None:
    one = Decoded(torch.zeros(1, 3, 8, 8), torch.zeros(1).long())
    data = data_of(one, one, ["a"], (3, 8, 8))
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    tested = evaluate(network, data)
    assert (tested.accuracy, tested.top5_accuracy, tested.images) == (100, None, 1)
    run = Trainer(network, data, TrainingSettings(epochs=1), tmp_path, observer=Silent())
    run.run()  # one image is a batch, because this network has no batch norm


def test_a_last_step_has_images_for_every_batch(tmp_path: Path) -> None:
    data = load_data("digits", (3, 8, 8), train_images=19)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    observer = Silent()
    settings = TrainingSettings(epochs=1, batch_size=8, accumulate=2)
    Trainer(network, data, settings, tmp_path, observer=observer).run()
    assert len(observer.steps) == 1  # three images are too few for two batches
    evaluated = load_data("digits", (3, 8, 8), train_images=17)
    accuracy_before(network, evaluated, 8, Processes(), estimate_batch_norm=True)
