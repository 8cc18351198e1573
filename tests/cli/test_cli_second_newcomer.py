"""The command line as a second new user uses it: what was accepted, or passed over in silence."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Invoke
from pictures import paint
from typer.testing import CliRunner

from seclcompress.artefact import read_config
from seclcompress.cli import app, training

PAINTED = {"cat": "red", "dog": "green"}
NETWORK = ("wrn10_1", "--num-classes", 2, "--input-size", 16)
SHORT = ("--epochs", 1, "--batch-size", 2)


def said(result: Any) -> str:
    return " ".join(result.stderr.split())


@pytest.fixture
def data(invoke: Invoke) -> str:
    """Eight pictures; `invoke` has moved into the test's folder."""
    del invoke
    return paint(Path("set"), PAINTED, parts={"train": 2, "val": 2})


@pytest.fixture
def trained(invoke: Invoke, data: str) -> str:
    invoke("train", "wrn10_1", "--data", data, "--input-size", 16, *SHORT, "-o", "trained")
    return "trained"


@pytest.fixture
def student(invoke: Invoke, trained: str) -> str:
    invoke("convert", trained, "-o", "student")
    return "student"


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_random_weights_are_said(invoke: Invoke, data: str, command: str) -> None:
    end = ("--data", data) if command == "evaluate" else ("-o", "out", "--format", "weights")
    words = said(invoke(command, *NETWORK, *end))
    option = "--weights" if command == "evaluate" else "--weights-file"
    assert f"wrn10_1 has random weights, as none are given with {option}:" in words


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_a_student_that_was_never_trained(
    invoke: Invoke, data: str, student: str, trained: str, command: str
) -> None:
    end = ("--data", data) if command == "evaluate" else ("-o", "out", "--format", "weights")
    assert "was converted and never trained" in said(invoke(command, student, *end))
    words = said(invoke(command, trained, *end, *(["--overwrite"] if command == "export" else [])))
    assert "never trained" not in words
    assert "random weights" not in words


def test_what_was_measured_before_and_on_how_many_images(
    invoke: Invoke, data: str, student: str, trained: str
) -> None:
    result = invoke(
        "distill", student, "--teacher", trained, "--data", data, *SHORT,
        "--untrained-teacher", "--alpha", 0, "--beta", 0, "-o", "out",
    )  # fmt: skip
    assert "statistics estimated anew from training images" in said(result)
    assert "nothing is learnt from the teacher" in said(result)
    assert read_config(Path("out")).training["test_images"] == 4


def test_a_finished_run_is_not_gone_on_with(invoke: Invoke, data: str, trained: str) -> None:
    before = Path(trained, "model.safetensors").read_bytes()
    result = invoke(
        "train", "wrn10_1", "--data", data, *SHORT, "-o", trained, "--resume", code=2
    )  # fmt: skip
    assert "The run into trained is finished" in said(result)
    assert Path(trained, "model.safetensors").read_bytes() == before


def test_a_square_larger_than_the_images(invoke: Invoke, data: str) -> None:
    start = ("train", "wrn10_1", "--data", data, "--input-size", 16, *SHORT, "-o", "out")
    result = invoke(*start, "--cutout", 17, code=2)
    assert "--cutout 17: the square is larger than the images" in said(result)
    assert not Path("out").exists()
    invoke(*start, "--cutout", 16)


def test_fewer_images_than_classes(invoke: Invoke) -> None:
    result = invoke(
        "train", "wrn10_1", "--data", "digits", "--train-images", 3, *SHORT, "-o", "out"
    )
    assert "3 training images for 10 classes" in said(result)


def test_debug_changes_no_exit_code(invoke: Invoke, data: str) -> None:
    stopped = ["train", "wrn10_1", "--data", data, "--epochs", "9", "--batch-size", "2"]
    stopped += ["--input-size", "16", "--time-limit", "0", "-o", "out"]
    for arguments, code in ((stopped, 130), (["evaluate", "nothing", "--data", data], 1)):
        result = CliRunner().invoke(app, ["--debug", *arguments])
        assert result.exit_code == code
        assert "Traceback" in result.stderr
    invoke("count", "nothing", code=1)


def test_words_that_fail_in_a_signal_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal may come while rich draws a line, or where hardly a call is left."""

    def fails(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr(training.err_console, "print", fails)
    asked = []
    with training.stopping_softly(lambda: asked.append(True)):
        signal.raise_signal(signal.SIGINT)
    assert asked == [True]


def test_the_two_meanings_of_weights(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = " ".join(invoke("export", "--help").stdout.replace("│", " ").split())
    assert "is --weights-file here" in words
