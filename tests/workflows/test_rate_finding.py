"""Looking for a learning rate: through Python and on the command line; nothing else is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Invoke
from runs import Listening

from seclcompress import workflows
from seclcompress.errors import ArtefactError, UsageError
from seclcompress.settings.training import TrainingSettings

SMALL = TrainingSettings(epochs=1, train_images=150, batch_size=50)
FEW = ("--data", "digits", "--train-images", 100, "--batch-size", 25)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher and a student in one folder."""
    place = tmp_path_factory.mktemp("rates")
    workflows.train("wrn10_1", data="digits", output_dir=place / "teacher", settings=SMALL)
    workflows.convert(place / "teacher", place / "student")
    return place


def test_a_student_with_a_teacher(folders: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in folders.rglob("*") if path.is_file()}
    observer = Listening()
    found = workflows.find_lr(
        folders / "student",
        teacher=folders / "teacher",
        data="digits",
        settings=SMALL.model_copy(update={"lr": 0.2}),
        picture=tmp_path / "lr.png",
        steps=20,
        observer=observer,
    )
    assert found.lr == 0.2
    assert len(found.readings.losses) <= 20
    assert found.readings.losses[0] > 5  # attention and distillation are in it
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["lr.png"]
    assert {path: path.read_bytes() for path in folders.rglob("*") if path.is_file()} == before
    with pytest.raises(ArtefactError, match="is there already"):
        workflows.find_lr("wrn10_1", data="digits", picture=tmp_path / "lr.png")


def test_what_cannot_be_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="is a PNG file"):
        workflows.find_lr("wrn10_1", data="digits", picture="lr.pdf")
    with pytest.raises(UsageError, match="must rise"):
        workflows.find_lr("wrn10_1", data="digits", lowest=1.0, highest=0.1)
    with pytest.raises(UsageError, match="need a teacher"):
        workflows.find_lr("wrn10_1", data="digits", teacher_weights="DEFAULT")
    with pytest.raises(UsageError, match="without a teacher"):
        workflows.find_lr("wrn10_1", data="digits", teacher="wrn10_1", num_classes=3)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--find-lr runs in one process"):
        workflows.find_lr("wrn10_1", data="digits")


def test_the_command_says_how_to_go_on(invoke: Invoke) -> None:
    result = invoke("train", "wrn10_1", *FEW, "--no-flip", "--lr", 0.3, "--find-lr")
    assert "(these settings have 0.3)" in result.stdout
    [line] = [line for line in result.stdout.splitlines() if line.startswith("The run with it")]
    command = line.partition(": ")[2].split()
    assert command[:3] == ["seclcompress", "train", "wrn10_1"]
    assert command[-4:-2] == ["--lr", command[-3]]
    assert command[-2:] == ["-o", "FOLDER"]
    assert "0.3" not in command
    assert {"--no-flip", "--train-images", "100"} <= set(command)
    assert list(Path().iterdir()) == []
    # It is a command.
    invoke(*command[1:-1], "out", "--epochs", "1")


def test_the_record_of_a_command(invoke: Invoke, folders: Path) -> None:
    said = invoke(
        "distill", folders / "student", "--teacher", folders / "teacher", *FEW, "--find-lr",
        "--plot", "lr.png", "-o", "out", "--json",
    ).stdout  # fmt: skip
    record = json.loads(said)
    assert (record["command"], record["find_lr"], record["lr"]) == ("distill", True, 0.1)
    assert len(record["rates"]) == len(record["losses"]) == len(record["smoothed"])
    assert record["picture"] == "lr.png"
    assert [path.name for path in Path().iterdir()] == ["lr.png"]
    import jsonschema

    jsonschema.validate(record, json.loads(invoke("schema", "distill").stdout))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--find-lr", "--resume"], "--resume does nothing beside --find-lr"),
        (["--plot", "lr.png", "-o", "out"], "--plot does nothing without --find-lr"),
        ([], "Missing option '--output-dir' / '-o'"),
    ],
)
def test_options_that_do_not_fit(invoke: Invoke, arguments: list[str], words: str) -> None:
    result = invoke("train", "wrn10_1", *FEW, *arguments, code=2)
    assert words in " ".join(result.stderr.split())
    assert list(Path().iterdir()) == []
