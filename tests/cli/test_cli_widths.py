"""`seclcompress widths`: the table, what is said below it, records, the picture, and mistakes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import jsonschema
import pytest
from conftest import Invoke

from seclcompress.report.schemas import json_schema
from seclcompress.report.widths import widths_csv, widths_table
from seclcompress.widths.findings import CONJECTURE, FINDINGS, INSTEAD
from seclcompress.widths.result import LayerWidths, Widths

COMMAND = ("widths", "wrn10_1", "--input-size", 16, "--data", "digits", "--images", 60)
FEW = ("--layers", "group1", "--layers", "group3.0.conv2")
NAMES = ["group1.0.conv1", "group1.0.conv2", "group3.0.conv2"]


@pytest.mark.parametrize("columns", [100, 80, 40])
def test_the_table_and_what_to_make_of_it(
    invoke: Invoke, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said = invoke(*COMMAND, *FEW)
    lines = said.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert "…" not in said.stdout
    words = " ".join(said.stdout.split())
    if columns > 40:
        assert lines[0].split() == ["PCA", "PCA", "SV", "SV"]
        assert lines[1].split() == [
            *("layer", "width", "dead", "variance", "Shapiro", "exp", "gamma"),
            *("90%", "99%", "90%", "99%"),
        ]
        rows = [line.split() for line in lines[2:5]]
        assert [row[0] for row in rows] == NAMES
        assert [row[1] for row in rows] == ["16", "16", "64"]
        assert {len(row) for row in rows} == {11}
    else:
        for name in NAMES:
            assert f"\n{name}\n" in f"\n{said.stdout}"
        assert "64 channels, 0 dead, relu" in words
    # The words end the output: nobody may read the figures as an answer.
    assert words.endswith(INSTEAD)
    assert CONJECTURE in words
    assert "None of these figures tells the right width" in words
    assert "From 60 training images of digits." in words
    assert "random weights" in " ".join(said.stderr.split())


def test_the_record_is_as_its_schema_says(invoke: Invoke) -> None:
    record = json.loads(invoke(*COMMAND, *FEW, "--json").stdout)
    jsonschema.validate(record, json_schema("widths"))
    assert (record["command"], record["network"], record["images"]) == ("widths", "wrn10_1", 60)
    assert [one["name"] for one in record["layers"]] == NAMES
    layer = record["layers"][2]
    assert layer["channels"] == len(layer["variances"]) == len(layer["components"]["ratios"]) == 64
    assert sum(layer["variances"]) == pytest.approx(layer["total_variance"])
    assert sum(layer["components"]["ratios"]) == pytest.approx(1)
    assert len(layer["components"]["distances"]) == 65
    assert len(layer["singular"]["values"]) == 64
    assert layer["before"] == "output"
    assert record["layers"][0]["before"] == "batch norm"
    assert {*record["findings"]} == {*FINDINGS}
    assert record["picture"] is None


def test_csv_has_the_figures_of_the_record(invoke: Invoke) -> None:
    rows = [*csv.DictReader(io.StringIO(invoke(*COMMAND, *FEW, "--csv").stdout))]
    record = json.loads(invoke(*COMMAND, *FEW, "--json").stdout)
    assert [row["layer"] for row in rows] == NAMES
    for row, layer in zip(rows, record["layers"], strict=True):
        assert float(row["total_variance"]) == layer["total_variance"]
        assert float(row["shapiro_w"]) == layer["normality"]["w"]
        assert int(row["components_for_99"]) == layer["components"]["for_99"]
        assert int(row["singular_for_90"]) == layer["singular"]["for_90"]
        gammas = layer["gammas"]
        if gammas is not None:
            assert float(row["gamma_scale_2"]) == gammas["scales"][1]


def test_a_picture_and_overwriting_it(invoke: Invoke) -> None:
    said = invoke(*COMMAND, *FEW, "--picture", "w.png")
    assert "Wrote w.png" in said.stderr
    assert Path("w.png").read_bytes().startswith(b"\x89PNG")
    said = invoke(*COMMAND, *FEW, "--picture", "w.png", code=1)
    assert "--overwrite" in said.stderr
    record = json.loads(
        invoke(*COMMAND, *FEW, "--picture", "w.png", "--overwrite", "--json").stdout
    )
    assert record["picture"] == "w.png"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--images", 1), 2, "--images"),
        (("--layers", "nothing"), 2, "matches none of the 9 hidden layers"),
        (("--picture", "w.jpg"), 2, "ends in .png"),
        (("--overwrite",), 2, "--picture"),
        (("--json", "--csv"), 2, "exclude each other"),
        (("--weights", "nothing.pth"), 1, "nothing.pth"),
    ],
)
def test_mistakes(invoke: Invoke, options: tuple[object, ...], code: int, words: str) -> None:
    said = invoke(*COMMAND, *options, code=code)
    assert words in " ".join(said.stderr.split())
    assert not [*Path().iterdir()]


def test_data_are_needed(invoke: Invoke) -> None:
    assert "--data" in invoke("widths", "wrn10_1", code=2).stderr


@pytest.mark.parametrize("columns", [100, 60])
def test_the_help_says_what_was_found(
    invoke: Invoke, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    words = " ".join(invoke("widths", "--help").stdout.replace("│", " ").split())
    for one in FINDINGS.values():
        assert f"{one.title}: {one.found}" in words
    assert CONJECTURE in words
    assert "no label is used" in words


def nothing_measured(name: str) -> LayerWidths:
    return LayerWidths(
        name=name,
        kind="convolution",
        channels=2,
        activation=None,
        before="output",
        values=0,
        variances=None,
        total_variance=None,
        dead=None,
        normality=None,
        exponential_normal=None,
        gammas=None,
        components=None,
        singular=None,
        notes=("its outputs are not finite numbers",),
    )


@pytest.mark.parametrize("width", [40, 80])
def test_what_was_not_measured_is_a_dash_and_a_sentence(width: int) -> None:
    from rich.console import Console

    name = "features.denseblock4.denselayer16.conv2"
    found = Widths("net", "digits", 5, (nothing_measured(name), nothing_measured("a")))
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(widths_table(found, width))
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert name in text
    assert text.count("–") >= 2 * 5
    assert f"{name}: its outputs are not finite numbers." in " ".join(text.split())
    rows = [*csv.DictReader(io.StringIO(widths_csv(found)))]
    assert rows[0]["shapiro_w"] == rows[0]["dead"] == ""
    assert rows[1]["notes"] == "its outputs are not finite numbers"
