"""`--json` of every command: one record on standard output that its published schema describes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from conftest import Invoke

from seclcompress.report.schemas import RECORDS, json_schema

SMALL = ("--data", "digits", "--train-images", 100, "--input-size", 8, "--epochs", 1)


def check(command: str, text: str) -> dict[str, Any]:
    found = json.loads(text)
    jsonschema.validate(found, json_schema(command), jsonschema.Draft202012Validator)
    assert found["schema_version"] == 1
    assert found["command"] == command
    return dict(found)


def test_every_command_that_has_json_has_a_schema_and_the_other_way_round() -> None:
    from seclcompress.cli import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    with_json = {
        name for name, one in commands.items() if any(p.name == "json" for p in one.params)
    }
    assert with_json == set(RECORDS)
    assert set(commands) - with_json == {"schema"}


@pytest.mark.parametrize("command", RECORDS)
def test_schemas_are_schemas_and_refuse(invoke: Invoke, command: str) -> None:
    schema = json.loads(invoke("schema", command).stdout)
    assert schema == json_schema(command)
    jsonschema.Draft202012Validator.check_schema(schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema_version": 1, "command": command}, schema)


def test_all_schemas_at_once_and_unknown_ones(invoke: Invoke) -> None:
    assert set(json.loads(invoke("schema").stdout)) == set(RECORDS)
    assert "These do: bench, " in invoke("schema", "nothing", code=2).stderr


@pytest.mark.parametrize(
    ("command", "rest"),
    [
        ("networks", ["wrn*"]),
        ("substitutions", []),
        ("recipes", []),
        ("count", ["wrn10_1", "--per-layer"]),
        ("convert", ["wrn10_1", "--dry-run"]),
        ("plan", ["wrn10_1", "--budget", "parameters=20k"]),
        ("bench", ["wrn10_0.5", "--rounds", 3]),
        pytest.param(
            *("bench", ["wrn10_0.5", "--rounds", 3, "--runtime", "torch,onnxruntime"]),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_by_name(invoke: Invoke, command: str, rest: list[object]) -> None:
    check(command, invoke(command, *rest, "--json").stdout)


def test_a_line_for_each_network(invoke: Invoke) -> None:
    lines = invoke("survey", "*resnet18*", "--json").stdout.splitlines()
    found = [check("survey", line) for line in lines]
    assert found[0]["network"] == "resnet18"
    refused = [one["network"] for one in found if one["refused"]]
    assert refused == ["quantized_resnet18"] or len(found) == 1
    assert "exclude" in invoke("survey", "resnet18", "--json", "--csv", code=2).stderr


def test_from_training_to_a_file(invoke: Invoke) -> None:
    trained = check("train", invoke("train", "wrn10_1", *SMALL, "-o", "t", "--json").stdout)
    assert trained["epochs"][-1]["accuracy"] == trained["metrics"]["accuracy"]
    saved = json.loads(Path("t/config.json").read_text())["training"]
    assert trained["settings"]["train_images"] == 100
    assert trained["settings"].items() <= saved.items()
    assert "lr" in trained["settings"]  # a default
    converted = check("convert", invoke("convert", "t", "-o", "s", "--json").stdout)
    assert converted["output_dir"] == "s"
    assert {layer["action"] for layer in converted["plan"]["layers"]} == {"keep", "rewrite"}
    flags = ("--teacher", "t", "--untrained-teacher", *SMALL[:4], *SMALL[6:], "-o", "d", "--json")
    distilled = check("distill", invoke("distill", "s", *flags).stdout)
    assert set(distilled["before"]) == {"teacher", "before"}
    evaluated = check("evaluate", invoke("evaluate", "d", "--data", "digits", "--json").stdout)
    assert evaluated["accuracy"] == distilled["metrics"]["accuracy"]
    assert evaluated["top5_accuracy"] > evaluated["accuracy"]
    exported = check("export", invoke("export", "d", "-o", "d.onnx", "--json").stdout)
    assert exported["bytes"] == Path("d.onnx").stat().st_size
    check("bench", invoke("bench", "d.onnx", "--rounds", 3, "--json").stdout)
    page = check("report", invoke("report", "d", "-o", "d.html", "--json").stdout)
    assert page["headlines"]["d"].startswith("wrn10_1 became ")


def test_a_study(invoke: Invoke) -> None:
    pytest.importorskip("optuna")
    flags = ("--search", "batch_size=20,50", "--trials", 2, "-o", "study", "--json")
    found = check("tune", invoke("tune", "wrn10_1", *SMALL, *flags).stdout)
    assert [one["number"] for one in found["trials"]] == [0, 1]
    assert found["recipe"] == "study/recipe.toml"


def test_quiet_prints_results_warnings_and_errors_only(invoke: Invoke) -> None:
    flags = ("train", "wrn10_1", *SMALL, "-o")
    assert "epoch 1/1" in invoke(*flags, "loud").stderr
    quiet = invoke("--quiet", *flags, "quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    assert "there already" in invoke("-q", *flags, "quiet", code=1).stderr
    assert "wrn10_1, batch 1" in invoke("-q", "count", "wrn10_1").stdout
    assert "epoch 1/1" in invoke(*flags, "loud", "--overwrite").stderr


def test_the_log_has_times_levels_and_no_drawings(invoke: Invoke) -> None:
    flags = ("train", "wrn10_1", *SMALL, "--overwrite", "-o", "out")
    lines = invoke("--log-level", "info", *flags).stderr.splitlines()
    assert all(line[:2] == "20" and " INFO " in line for line in lines)
    assert sum("epoch=1, train_loss=" in line for line in lines) == 1
    more = invoke("--log-level", "debug", *flags).stderr
    assert " DEBUG " in more
    assert invoke("--log-level", "error", *flags).stderr == ""
    assert "epoch=1," not in invoke(*flags).stderr


def test_a_script_has_a_log(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    from seclcompress import workflows

    with caplog.at_level("INFO", "seclcompress"):
        workflows.convert("wrn10_1", tmp_path / "small", num_classes=10)
    wrote = f"Wrote {tmp_path / 'small'}."
    assert any(said.startswith(wrote) for said in caplog.messages)
