"""`seclcompress plan`: the table, the sentence about the budget, the file, and mistakes."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import torch
from conftest import Invoke

from seclcompress.resolve import locate

COMMAND = ("plan", "wrn10_1", "--input-size", 16, "--num-classes", 10)


def test_table_sentence_and_file(invoke: Invoke) -> None:
    said = invoke(*COMMAND, "--budget", "parameters=10k", "-o", "plan.json")
    assert "wrn10_1 can have" in said.stderr
    words = " ".join(said.stdout.split())
    assert re.search(r"Within the budget: 9,\d\d\d of 10,000 parameters, \d+ left over\. ", words)
    assert re.search(r"among \d+ candidates loses less by more than 0\.001 %\. ", words)
    alone = r"same for all of them within the budget, acdc depth=\d+, loses \d\d\.\d %\.$"
    assert re.search(alone, words)
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
    alone = record["uniform"]
    assert alone["family"] == "acdc"
    assert list(alone["options"]) == ["depth"]
    assert record["loss"] <= alone["loss"] < 1


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


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    given = {"input_size": (3, 16, 16), "num_classes": 10}
    torch.save(locate("wrn10_1", **given).load()[0].state_dict(), tmp_path / "w.pth")
    return tmp_path / "w.pth"


ON_IMAGES = (
    "--data",
    "digits",
    "--images",
    10,
    "--families",
    "low_rank",
    "--only",
    "group3.0.conv1",
)


@pytest.mark.parametrize(
    ("options", "source", "words"),
    [
        (
            (),
            "recovered",
            "% of the outputs' variance on 10 images of digits, each layer recovered alone; no other",
        ),
        (
            ("--sensitivity", "output"),
            "output",
            "% of the outputs' energy on 10 images of digits; no other choice",
        ),
        (
            ("--sensitivity", "fisher", "--seed", 1),
            "fisher",
            "% of what the mean layer's outputs are worth (Fisher information, 10 images of digits);",
        ),
    ],
)
def test_losses_on_images(
    invoke: Invoke, weights: Path, options: tuple[object, ...], source: str, words: str
) -> None:
    given = (*COMMAND, "--budget", "parameters=72k", "--weights", weights, *ON_IMAGES, *options)
    said = invoke(*given)
    assert words in " ".join(said.stdout.split())
    assert "candidates on 10 training images of digits; the others were known" in said.stderr
    record = json.loads(invoke(*given, "--json").stdout)
    assert (record["source"], record["data"], record["images"]) == (source, "digits", 10)
    curve = (*COMMAND, "--pareto", "c.html", "--weights", weights, *ON_IMAGES, *options)
    assert "on 10 images of digits" in " ".join(invoke(*curve).stdout.split()) or source == "fisher"
    assert "10 images of digits" in Path("c.html").read_text(encoding="utf-8")
    record = json.loads(invoke(*curve, "--json", "--overwrite").stdout)
    assert (record["source"], record["data"], record["images"]) == (source, "digits", 10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--images", "10"), "--images does nothing without --data"),
        (("--sensitivity", "output"), "--sensitivity output is measured on images: add --data"),
        (("--data", "digits", "--sensitivity", "energy"), "--data does nothing beside it"),
        (("--data", "digits"), "no trained weights of wrn10_1 are given: add --weights"),
        (("--seed", "1"), "--seed does nothing without --data"),
        (("--data-dir", "."), "--data-dir does nothing without --data"),
        (("--data", "digits", "--images", "0"), "--images"),
        (("--data", "digits", "--sensitivity", "guess"), "'guess' is not one of"),
    ],
)
def test_mistakes_about_images(invoke: Invoke, options: tuple[str, ...], words: str) -> None:
    given = (*COMMAND, "--budget", "parameters=10k", *options)
    assert words in " ".join(invoke(*given, code=2).stderr.split())


def test_images_plan_nothing_by_themselves(invoke: Invoke, weights: Path) -> None:
    said = invoke(*COMMAND, "--data", "digits", "--weights", weights, code=2)
    assert "Say what is planned" in said.stderr


@pytest.mark.parametrize("width", [40, 80])
def test_the_whole_curve(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    said = invoke(*COMMAND, "--pareto", "curve.csv", "--families", "separable,shuffle")
    assert all(len(line) <= width for line in said.stdout.splitlines())
    words = re.search(r"on average over the (\d+) layers that may", " ".join(said.stdout.split()))
    assert words is not None
    rows = list(csv.DictReader(Path("curve.csv").read_text().splitlines()))
    sizes = [int(row["parameters"]) for row in rows]
    losses = [float(row["loss"]) for row in rows]
    assert sizes == sorted(sizes)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == 0
    assert all(int(row["parameters"]) <= int(row["limit"]) for row in rows)
    # Each point is the plan of that budget.
    middle = rows[len(rows) // 2]
    given = (
        "--budget",
        f"parameters={middle['limit']}",
        "--families",
        "separable,shuffle",
        "--json",
    )
    plan = json.loads(invoke(*COMMAND, *given).stdout)
    assert plan["columns"]["auto"]["parameters"] == int(middle["parameters"])
    assert plan["loss"] == pytest.approx(float(middle["loss"]), abs=1e-6)
    assert plan["layers"] == int(words[1])


@pytest.mark.parametrize("ending", ["png", "html"])
def test_pictures_of_the_curve(invoke: Invoke, ending: str) -> None:
    few = ("--families", "separable", "--against", "mult-adds")
    record = json.loads(invoke(*COMMAND, "--pareto", f"curve.{ending}", *few, "--json").stdout)
    assert record["quantity"] == "mult_adds"
    content = Path(f"curve.{ending}").read_bytes()
    if ending == "png":
        assert content.startswith(b"\x89PNG")
    else:
        page = content.decode()
        assert page.startswith("<!doctype html>")
        assert "<script" not in page
        assert f"{record['points'][0]['mult_adds']:,}" in page
    assert "--overwrite" in invoke(*COMMAND, "--pareto", f"curve.{ending}", *few, code=1).stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--pareto", "c.csv", "--budget", "parameters=10k"), "One of the two"),
        (("--pareto", "c.txt"), "the file ends in .csv, .png, .html"),
        (("--pareto", "c.csv", "-o", "plan.json"), "nothing beside --pareto"),
        (("--budget", "parameters=10k", "--against", "mult-adds"), "nothing without --pareto"),
    ],
)
def test_mistakes_about_the_curve(invoke: Invoke, options: tuple[str, ...], words: str) -> None:
    assert words in " ".join(invoke(*COMMAND, *options, code=2).stderr.split())
