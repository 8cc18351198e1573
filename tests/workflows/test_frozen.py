"""A network whose builder froze its backbone: what is new is trained, the rest stays, both are said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import Listening
from safetensors.torch import load_file
from typer.testing import CliRunner

from seclcompress.cli.app import app
from seclcompress.settings.planning import PlanOptions
from seclcompress.settings.training import TrainingSettings
from seclcompress.workflows import convert, distill, train

NETWORK = """
from torch import nn

class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        )
        self.fc = nn.Linear(32, 10)
        self.body.requires_grad_(False)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))
"""
SMALL = TrainingSettings(epochs=1, train_images=100, batch_size=50, lr=0.05)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # A name of its own: a module that another test has imported would be found first.
    Path("frozen_net.py").write_text(NETWORK)
    return tmp_path


def test_new_layers_are_trained_and_frozen_ones_stay(here: Path) -> None:
    name, told = "frozen_net:Frozen", Listening()
    train(name, data="digits", output_dir="t", settings=SMALL, input_size=(3, 8, 8), observer=told)
    frozen = "frozen 5,136 of its 5,466 parameters (body.0.weight, body.1.weight, body.1.bias"
    assert [frozen in words for words in told.words].count(True) == 1
    options = PlanOptions(config={"depth": 2})
    convert("t", output_dir="s", options=options, factory=name, observer=told)
    assert (
        "; they stay as they are. The 1 rewritten layers are new and are trained." in told.words[-2]
    )
    distill("s", teacher="t", factory=name, data="digits", output_dir="d", settings=SMALL)
    before, after = load_file("s/model.safetensors"), load_file("d/model.safetensors")
    changed = {
        key for key in before if "running" not in key and not torch.equal(before[key], after[key])
    }
    assert changed == {
        "body.1.num_batches_tracked",
        "body.3.depthwise.weight",
        "body.3.pointwise.a",
        "body.3.pointwise.d",
        "body.4.num_batches_tracked",
        "fc.bias",
        "fc.weight",
    }


def test_on_the_command_line(here: Path) -> None:
    said = CliRunner().invoke(app, ["convert", "frozen_net:Frozen", "--input-size", "8", "-o", "s"])
    assert said.exit_code == 0
    words = " ".join(said.output.split())
    assert "The network itself has frozen" in words
    assert "rewritten layers are new and are trained" in words
