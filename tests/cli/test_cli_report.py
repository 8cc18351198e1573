"""`seclcompress report`: what it prints and writes, and its exit codes."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Invoke
from pages import Reader, write_folder

from seclcompress.artefact import read_config
from seclcompress.files import check_free
from seclcompress.report.page.commands import steps
from seclcompress.settings.planning import PlanOptions
from seclcompress.workflows import convert, report


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("made") / "small")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A saved folder of the test's own, `small` where the commands run."""
    return Path(shutil.copytree(made, tmp_path / "small"))


def test_a_page_is_written_and_its_sentence_printed(
    invoke: Invoke, folder: Path, tmp_path: Path
) -> None:
    result = invoke("report", "small", "-o", "page.html")
    first, sentence = result.stdout.splitlines()
    assert first == "Wrote page.html."
    assert sentence.startswith("wrn10_1 became ")
    assert sentence.endswith("90.25 % instead of 92.75 %.")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert sentence in Reader(page).words

    refused = invoke("report", "small", "-o", "page.html", code=1)
    assert "page.html is there already" in " ".join(refused.stderr.split())
    write_folder(tmp_path / "other", taught=False)
    evaluated = ["--data", "digits", "--batch-size", "200", "--overwrite"]
    result = invoke("report", "small", "other", "-o", "page.html", *evaluated)
    assert [line.partition(":")[0] for line in result.stdout.splitlines()[1:]] == ["small", "other"]
    words = Reader((tmp_path / "page.html").read_text(encoding="utf-8")).words
    assert "2 networks side by side" in words
    assert words.count("On the 360 test images of digits, evaluated for this page") == 2
    assert "Most frequent mistakes:" in words


@pytest.mark.skipif(sys.platform == "win32", reason="the commands are for a POSIX shell")
def test_its_commands_make_the_folder_again(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = "it's a; folder"
    options = PlanOptions(config={"depth": 3}, keep=("group2.*",))
    convert("wrn10_1", odd, options=options, num_classes=4, input_size=(3, 16, 16), seed=7)
    (facts,) = report([odd], "page.html").facts
    take, again, _ = [step.command for step in steps(facts)]
    python = f"{shlex.quote(sys.executable)} {take.removeprefix('python ')}"
    subprocess.run(["sh", "-c", python], check=True, cwd=tmp_path)
    invoke(*shlex.split(again)[1:])
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in (odd, "again"))
    assert read_config(tmp_path / "again").plan == read_config(tmp_path / odd).plan
    assert one == two


def test_a_page_inside_a_folder_is_one_of_its_files(
    invoke: Invoke, folder: Path, tmp_path: Path
) -> None:
    (folder / "metrics.jsonl").unlink()  # it is not in the manifest of this made-up folder
    invoke("report", "small", "-o", "small/report.html")
    assert (folder / "report.html").is_file()
    check_free(folder, overwrite=True)  # or the folder could never be replaced


def test_bench(invoke: Invoke, folder: Path, tmp_path: Path) -> None:
    invoke("report", "small", "-o", "page.html", "--bench")
    words = Reader((tmp_path / "page.html").read_text(encoding="utf-8")).words
    assert "One image at a time, in torch" in words
    assert "ms an image" in words


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["-o", "page.html"], 2, "Missing argument"),
        (["small"], 2, "Missing option"),
        (
            ["small", "-o", "small/config.json", "--overwrite"],
            2,
            "the page is a file that ends in .html",
        ),
        (["nowhere", "-o", "page.html"], 1, "There is no folder"),
        (["resnet18", "-o", "page.html"], 1, "There is no folder"),
        (["small", "-o", "page.html", "--data", "nothing"], 2, "nothing"),
        (["empty", "-o", "page.html"], 1, "is not a folder of seclcompress"),
    ],
)
def test_errors_are_in_words_and_nothing_is_written(
    invoke: Invoke, folder: Path, tmp_path: Path, arguments: list[str], code: int, expected: str
) -> None:
    (tmp_path / "empty").mkdir()
    result = invoke("report", *arguments, code=code)
    assert expected in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{}\n", "line 1: epoch: Field required"),
        ('{"epoch": 1, "train_loss": 1, "test_loss": 1, "accuracy": 101}\n', "accuracy"),
        (
            '{"epoch": 1, "train_loss": 1}\n',
            "there is neither accuracy nor validation_accuracy",
        ),
        ("[" * 100_000, "line 1"),
        (b"\xff\xfe", "line 1"),
        ("\n" * 20_001, "at most 8,388,608 and 20,000 epochs are read"),
        (b"\0" * (2**23 + 1), "has 8,388,609 bytes"),
    ],
)
def test_damaged_metrics(
    invoke: Invoke, folder: Path, tmp_path: Path, content: str | bytes, expected: str
) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    (folder / "metrics.jsonl").write_bytes(raw)
    result = invoke("report", "small", "-o", "page.html", code=1)
    said = " ".join(result.stderr.split())
    assert expected in said
    assert "Move it away to go on without it." in said


def test_what_leads_out_of_a_folder_is_not_read(
    invoke: Invoke, folder: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(json.dumps({"word": "hidden"}), encoding="utf-8")
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").symlink_to(secret)
    result = invoke("report", "small", "-o", "page.html", code=1)
    assert "outside the folder: refused" in " ".join(result.stderr.split())
    assert "hidden" not in result.stderr


def test_a_damaged_file_of_weights(invoke: Invoke, folder: Path, tmp_path: Path) -> None:
    (folder / "best.safetensors").write_bytes(b"\xff" * 100)
    result = invoke("report", "small", "-o", "page.html", code=1)
    assert "best.safetensors is not a readable safetensors file" in " ".join(result.stderr.split())
