"""`seclcompress slim`: the table, the sentence, the folder, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Invoke

COMMAND = ("slim", "wrn10_1", "--input-size", 16)


@pytest.mark.parametrize("columns", [100, 40])
def test_table_sentence_and_folder(
    invoke: Invoke, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said = invoke(*COMMAND, "--budget", "parameters=40k", "-o", "small")
    lines = said.stdout.splitlines()
    assert (
        lines[0].split() == [*"channels made by layers before after kept".split()] or columns == 40
    )
    assert max(map(len, lines)) <= columns
    words = " ".join(said.stdout.split())
    assert "wrn10_1: 77,850 parameters became 39," in words
    assert "times smaller" in words
    assert "Wrote small" in " ".join(said.stderr.split())
    assert Path("small/model.safetensors").stat().st_size < 4 * 40_000 + 20_000
    counted = json.loads(invoke("count", "small", "--json").stdout)
    assert counted["columns"]["original"]["parameters"] < 40_000


def test_json_and_dry_run(invoke: Invoke) -> None:
    record = json.loads(
        invoke(
            *COMMAND, "--budget", "mult-adds=2M", "--spread", "uniform", "--dry-run", "--json"
        ).stdout
    )
    assert record["command"] == "slim"
    assert record["output_dir"] is None
    assert record["after"]["mult_adds"] <= 2_000_000 < record["before"]["mult_adds"]
    assert record["options"]["spread"] == "uniform"
    assert record["options"]["least"] == 0.1
    assert not [*Path().iterdir()]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--budget", "parameters=40k"), 2, "Where to?"),
        (("--budget", "parameters=1", "-o", "x"), 1, "cannot meet the budget"),
        (("--budget", "parameters=1G", "-o", "x"), 1, "meets the budget as it is"),
        (("--budget", "parameters", "-o", "x"), 2, "it takes parameters=NUMBER"),
        (("--budget", "parameters=40k", "-o", "x", "--least", "2"), 2, "--least"),
        (("--budget", "parameters=40k", "-o", "x", "--dry-run"), 2, "no network is made"),
        (("-o", "x"), 2, "--budget"),
    ],
)
def test_mistakes(invoke: Invoke, options: tuple[str, ...], code: int, words: str) -> None:
    said = invoke(*COMMAND, *options, code=code)
    assert words in " ".join(said.stderr.split())
    assert not Path("x").exists()


def test_options_of_images_need_data(invoke: Invoke) -> None:
    run = (*COMMAND, "--budget", "parameters=40k", "--dry-run")
    assert "--data" in invoke(*run, "--batch-size", 10, code=2).stderr
    said = invoke("slim", "wrn10_1", *run[2:], "--num-classes", 10, "--data", "digits")
    assert "Accuracy:" in said.stdout
