"""`--quiet` and `--json` of every command, with a network whose code prints to standard output."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import Invoke
from every_command import EVERY, LISTING, SCHEMA

from seclcompress import workflows
from seclcompress.settings import TrainingSettings

CHATTY = """
import torch

print("chatter at import")

class Chatty(torch.nn.Module):
    def __init__(self):
        super().__init__()
        print("chatter when it is built")
        self.stem = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.body = torch.nn.Conv2d(8, 8, 3, padding=1)
        self.fc = torch.nn.Linear(8, 10)

    def forward(self, x):
        print("chatter when it runs")
        return self.fc(self.body(self.stem(x).relu()).relu().mean((2, 3)))
"""
TRAINED = ("--data", "digits", "--train-images", 30, "--epochs", 1, "--batch-size", 10)
TRUST = ("--factory", "chatty:Chatty")
FEW = ("--families", "separable")
COMMANDS: dict[str, tuple[object, ...]] = {
    "count": ("student", *TRUST),
    "train": ("chatty:Chatty", "--input-size", 8, *TRAINED, "-o", "out"),
    "plan": ("teacher", "--budget", "parameters=800", *FEW, *TRUST, "-o", "plan.json"),
    "slim": ("teacher", "--budget", "parameters=800", *TRUST, "-o", "out"),
    "convert": ("teacher", *TRUST, "-o", "out"),
    "recover": (
        *("student", "--teacher", "teacher", "--data", "digits", "--pictures", 20, *TRUST),
        *("-o", "out"),
    ),
    "distill": (
        *("student", "--teacher", "teacher", "--untrained-teacher", *TRAINED, *TRUST),
        *("-o", "out"),
    ),
    "search": (
        *("teacher", *TRAINED, *FEW, *TRUST, "--budget", "parameters=800", "--pictures", 20),
        *("--alpha", 0, "--beta", 0, "-o", "out"),
    ),
    "tune": (
        *("chatty:Chatty", "--input-size", 8, *TRAINED[:-2], "--search", "batch_size=10,15"),
        *("--trials", 1, "-o", "out"),
    ),
    "evaluate": ("student", "--data", "digits", *TRUST),
    "export": ("student", *TRUST, "--format", "weights", "-o", "out.safetensors"),
    "bench": ("chatty:Chatty", "--input-size", 8, "--rounds", 3, "--cost-model", "paper"),
    "report": ("student", *TRUST, "-o", "out.html"),
    "upload": ("student", "owner/name", "--dry-run"),
    "survey": ("resnet18",),
    "widths": ("student", "--data", "digits", "--images", 20, *TRUST),
    "networks": ("resnet18",),
    "substitutions": (),
    "recipes": (),
}


@pytest.fixture
def folders(
    invoke: Invoke, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The factory, a teacher and a student in the current folder; they are made once."""
    made = tmp_path_factory.getbasetemp() / "chatty"
    if not made.exists():
        made.mkdir()
        (made / "chatty.py").write_text(CHATTY)
        with pytest.MonkeyPatch.context() as patched:
            patched.chdir(made)
            settings = TrainingSettings(epochs=1, batch_size=10, train_images=30)
            workflows.train(
                "chatty:Chatty",
                data="digits",
                output_dir="teacher",
                settings=settings,
                input_size=(3, 8, 8),
            )
            workflows.convert("teacher", Path("student"), factory="chatty:Chatty")
    for path in made.iterdir():
        Path(path.name).symlink_to(path)


def test_no_command_is_left_out() -> None:
    assert {*COMMANDS, *SCHEMA} == set(EVERY)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("folders")
def test_one_document_and_no_progress(invoke: Invoke, command: str) -> None:
    sys.modules.pop("chatty", None)
    result = invoke("-q", command, *COMMANDS[command], "--json")
    assert json.loads(result.stdout)["command"] == command
    lines = set(result.stderr.splitlines())
    assert {line for line in lines if not line.startswith(("chatter", "Warning: "))} == set()
    runs_its_code = command not in (*LISTING, "upload", "survey")
    assert ("chatter when it is built" in lines) is runs_its_code


@pytest.mark.parametrize("command", ["count", "convert", "bench", "evaluate", "slim", "plan"])
@pytest.mark.usefixtures("folders")
def test_quiet_keeps_the_results(invoke: Invoke, command: str) -> None:
    result = invoke("-q", command, *COMMANDS[command])
    shown = [line for line in result.stdout.splitlines() if not line.startswith("chatter")]
    assert shown
    assert not [line for line in result.stderr.splitlines() if not line.startswith("Warning: ")]


@pytest.mark.parametrize("flag", ["--json", "--csv"])
def test_figures_stay_readable_where_a_network_prints(
    invoke: Invoke, folders: None, flag: str
) -> None:
    result = invoke("count", *COMMANDS["count"], flag)
    assert "chatter" in result.stderr
    assert "chatter" not in result.stdout
    assert result.stdout.count("body") > 0
