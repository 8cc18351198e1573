"""`seclcompress plan`: the table, the sentence about the budget, the file, and mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import Invoke

COMMAND = ("plan", "wrn10_1", "--input-size", 16, "--num-classes", 10)


def test_table_sentence_and_file(invoke: Invoke) -> None:
    said = invoke(*COMMAND, "--budget", "parameters=10k", "-o", "plan.json")
    assert "wrn10_1 can have" in said.stderr
    words = " ".join(said.stdout.split())
    assert re.search(r"Within the budget: 9,\d\d\d of 10,000 parameters, \d+ left over\. ", words)
    assert re.search(r"among \d+ candidates loses less by more than 0\.001 %\.$", words)
    invoke("convert", "wrn10_1", *COMMAND[2:], "--plan", "plan.json", "-o", "small")
    weights = Path("small/model.safetensors").stat().st_size
    assert weights < 4 * 10_000 + 20_000
    refused = invoke(*COMMAND, "--budget", "parameters=9k", "-o", "plan.json", code=1)
    assert "plan.json" in refused.stderr
    invoke(*COMMAND, "--budget", "parameters=9k", "-o", "plan.json", "--overwrite")


def test_json(invoke: Invoke) -> None:
    record = json.loads(invoke(*COMMAND, "--budget", "bytes=40kB", "--json").stdout)
    assert record["command"] == "plan"
    assert record["columns"]["auto"]["parameters"] <= 10_000
    assert record["reachable"]["parameters"]["least"] < 10_000
    assert record["source"] == "shapes"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--budget", "parameters=1k"), 1, "No plan for wrn10_1 meets parameters=1,000"),
        (("--budget", "100k"), 2, "it takes parameters=NUMBER"),
        (("--budget", "parameters=10k", "--families", ","), 2, "name at least one"),
        (("--budget", "parameters=10k", "--overwrite"), 2, "does nothing without --output"),
        ((), 2, "--budget"),
    ],
)
def test_mistakes(invoke: Invoke, options: tuple[str, ...], code: int, words: str) -> None:
    assert words in " ".join(invoke(*COMMAND, *options, code=code).stderr.split())


def test_a_file_of_a_saved_folder_that_is_no_plan_is_never_replaced(invoke: Invoke) -> None:
    invoke("convert", "wrn10_1", "-o", "saved")
    before = Path("saved/model.safetensors").read_bytes()
    given = ("--budget", "parameters=10k", "-o", "saved/model.safetensors", "--overwrite")
    invoke(*COMMAND, *given, code=1)
    assert Path("saved/model.safetensors").read_bytes() == before


def test_a_narrow_terminal(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = invoke(*COMMAND, "--budget", "parameters=10k").stdout.splitlines()
    assert max(map(len, lines)) <= 40
    assert "loses less by more than 0.001 %." in " ".join(" ".join(lines).split())


def test_the_same_plan_every_time_and_the_options_hold(invoke: Invoke) -> None:
    given = ("--budget", "parameters=50k", "--keep", "group3.0.conv2", "--families", "separable")
    invoke(*COMMAND, *given, "-o", "one.json")
    invoke(*COMMAND, *given, "-o", "two.json")
    assert Path("one.json").read_bytes() == Path("two.json").read_bytes()
    layers = {one["name"]: one for one in json.loads(Path("one.json").read_text())["layers"]}
    assert layers["group3.0.conv2"]["reason"] == "kept by --keep group3.0.conv2"
    assert layers["conv1"]["reason"].startswith("the stem")
    assert {one["substitution"] for one in layers.values()} == {None, "separable"}
