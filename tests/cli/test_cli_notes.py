"""Notes come after the checks: none stands before an error that makes it false."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import Invoke

from seclcompress import networks
from seclcompress.observer import Observer, after_checks

BUDGET = ("--budget", "parameters=40k")


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["train", "wrn10_1", "--data", "nosuch", "-o", "out"], 2, "Unknown data 'nosuch'"),
        (
            ["train", "resnet18", "--data", "cifar10", "--data-dir", "d", "-o", "out"],
            1,
            "cifar10 is not in d",
        ),
        (["slim", "wrn10_1", *BUDGET, "--data", "nosuch", "-o", "out"], 2, "Unknown data 'nosuch'"),
        (["export", "wrn10_1", "--data", "nosuch", "-o", "out"], 2, "Unknown data 'nosuch'"),
        (
            ["evaluate", "conftest:awkward", "--data", "cifar10", "--data-dir", "d"],
            1,
            "cifar10 is not in d",
        ),
        (
            ["convert", "conftest:awkward", "--weights", "w.safetensors", "-o", "out"],
            1,
            "w.safetensors does not fit",
        ),
        (
            ["tune", "wrn10_1", "--data", "nosuch", "--search", "lr=0.1,0.2", "-o", "out"],
            2,
            "Unknown data 'nosuch'",
        ),
    ],
)
def test_an_error_alone(invoke: Invoke, arguments: list[object], code: int, error: str) -> None:
    safetensors.torch.save_file({"fc.weight": torch.zeros(3, 3)}, "w.safetensors")
    words = invoke(*arguments, code=code).stderr
    assert words.startswith(f"Error: {error}")


def test_without_an_error_they_are_told(invoke: Invoke) -> None:
    weights = networks.build(networks.named_spec("wrn10_1")).state_dict()
    safetensors.torch.save_file(weights, "w.safetensors")
    assert "has random weights" in invoke("slim", "wrn10_1", *BUDGET, "-o", "out").stderr
    assert Path("out").is_dir()


class Told(Observer):
    def __init__(self) -> None:
        self.words: list[str] = []

    def message(self, words: str) -> None:
        self.words.append(words)

    def decoding(self, data: str, done: int, total: int) -> None:
        self.words.append(f"{done} of {total}")


def test_facts_wait_in_their_order_and_progress_does_not() -> None:
    told = Told()
    with after_checks(told) as checked:
        checked.message("one")
        checked.decoding("digits", 1, 2)
        checked.message("two")
        assert told.words == ["1 of 2"]
    assert told.words == ["1 of 2", "one", "two"]
    checked.message("three")  # who keeps the observer goes on as ever
    assert told.words[-1] == "three"


def test_an_error_drops_them() -> None:
    told = Told()

    def fails() -> None:
        with after_checks(told) as checked:
            checked.message("one")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert told.words == []
