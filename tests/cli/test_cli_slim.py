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
        (("--method", "svd", "-o", "x", "--budget", "parameters=40k"), 2, "name a data set"),
        (("--method", "svd", "-o", "x", "--data", "digits"), 2, "--energy what share"),
        (
            ("--method", "svd", "-o", "x", "--energy", "0.9", "--budget", "parameters=40k"),
            2,
            "Drop one of the two",
        ),
        (("--method", "svd", "-o", "x", "--energy", "1.5"), 2, "--energy"),
        (("--energy", "0.9", "-o", "x"), 2, "--energy does nothing beside --method norm"),
        (("--method", "gates", "--pictures", "9", "-o", "x"), 2, "it looks at no pictures"),
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


SHORT = ("--data", "digits", "--epochs", 2, "--train-images", 100, "--batch-size", 25)


@pytest.mark.parametrize("columns", [100, 40])
def test_trained_meanwhile(invoke: Invoke, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    small = ("slim", "wrn10_1", "--input-size", 8, "--budget", "parameters=40k", *SHORT)
    said = invoke(*small, "--method", "gates", "-o", "gated")
    assert max(map(len, said.stdout.splitlines())) <= columns
    words = " ".join(said.stdout.split())
    assert "wrn10_1: 77,850 parameters became" in words
    told = " ".join(said.stderr.split())
    assert "the network keeps its size" in told
    counted = json.loads(invoke("count", "gated", "--json").stdout)
    assert counted["columns"]["original"]["parameters"] <= 40_000
    invoke(*small, "--method", "gates", "-o", "gated", code=1)  # it is taken


def test_trained_meanwhile_as_json(invoke: Invoke) -> None:
    run = (*COMMAND[:2], "--input-size", 8, "--budget", "parameters=40k", *SHORT, "--rounds", 2)
    record = json.loads(invoke(*run, "-o", "x", "--json").stdout)
    assert record["options"]["rounds"] == 2
    assert [line["epoch"] for line in record["epochs"]] == [1, 2]
    assert record["epochs"][-1]["parameters"] == record["after"]["parameters"] <= 40_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--price", 3), "--price does nothing beside --method norm"),
        (("--price-by", "parameters"), "--price-by does nothing beside --method norm"),
        (("--epochs", 3), "--epochs does nothing without --rounds"),
        (("--teacher", "t"), "--teacher does nothing without --rounds"),
        (("--until", 0.2), "--until does nothing without --rounds"),
        (("--method", "gates", "--until", 3), "--until"),
        (("--method", "gates", "--price-decay", 0), "--price-decay"),
        (("--method", "gates"), "name the images with --data"),
        (("--method", "gates", "--data", "digits", "--dry-run"), "--dry-run"),
        (("--method", "gates", "--rounds", 2, "--data", "digits"), "--rounds is for"),
        (("--rounds", 2, "--data", "digits", "--resume", "--overwrite"), "--resume"),
        (("--method", "growth"), "growth"),
    ],
)
def test_options_of_training_and_of_gates(
    invoke: Invoke, options: tuple[str, ...], words: str
) -> None:
    dry = () if "--dry-run" in options else ("-o", "x")
    said = invoke(*COMMAND, "--budget", "parameters=40k", *dry, *options, code=2)
    assert words in " ".join(said.stderr.split())
    assert not Path("x").exists()
