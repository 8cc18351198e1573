"""The command line as a new user uses it: with mistakes, in unusual places, and interrupted."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Invoke
from pictures import COLOURS, paint
from PIL import Image

HERE = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["resnet18", "count"], 2, "No such command 'resnet18'"),
        (["resnet18"], 2, "No such command 'resnet18'"),
        (["--depth", "3", "count", "resnet18"], 2, "No such option: --depth"),
        (["count", "--debug", "resnet18"], 2, "No such option: --debug"),
        (["count"], 2, "Missing argument 'NETWORK'"),
        (["count", "resnet18", "resnet50"], 2, "unexpected extra argument"),
        (["convert", "-o", "out"], 2, "Missing argument 'NETWORK'"),
        (["convert", "out", "-o", "resnet18"], 1, "Unknown network 'out'"),
        (["convert", "resnet18", "-o"], 2, "Option '-o' requires an argument"),
        (["distill", "student"], 2, "Missing option '--teacher'"),
        (["count", "x" * 300], 1, "Unknown network 'xxx"),
        (["count", "a/" + "x" * 300], 1, "There is no folder a/xxx"),
        (["count", ""], 1, "has no config.json"),
        (["count", "resnet18", "--plan", "x" * 300], 1, "File name too long"),
        (["convert", "wrn10_1", "-o", "x" * 300], 1, "the name has 300 bytes"),
        (["convert", "wrn10_1", "-o", ""], 1, "is there already"),
        (["convert", "wrn10_1", "-o", "new/.."], 1, ".. is no name"),
        (["convert", "wrn10_1", "--weights", "x" * 300 + ".pth", "-o", "out"], 1, "no weights file"),
        (["convert", "wrn10_1", "--weights", ".", "-o", "out"], 1, "There is no weights file ."),
        (["count", "wrn10_1", "--plan", "."], 1, "Cannot read the plan .: Is a directory"),
        (["count", "wrn10_1\x1b[2J"], 1, "Unknown network 'wrn10_1\\x1b[2J'"),
        (["count", "wrn\udcff"], 1, "Unknown network 'wrn\\udcff'"),
        (["COUNT", "resnet18"], 2, "No such command 'COUNT'"),
        (["count", "ResNet18"], 1, "Did you mean resnet18"),
    ],
)  # fmt: skip
def test_called_in_ways_that_cannot_work(
    invoke: Invoke, arguments: list[str], code: int, words: str
) -> None:
    result = invoke(*arguments, code=code)
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert "Internal error" not in result.stderr
    assert "\x1b" not in result.stderr
    assert list(Path().iterdir()) == []


COMMANDS = "count train convert distill evaluate bench report networks substitutions".split()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_on_a_narrow_terminal(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = invoke(command, "--help").stdout
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 40


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_cuts_no_name_and_no_word(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, command: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", "99" if columns < 100 else "1000")  # plain lines, or boxes
    whole = invoke(command, "--help").stdout
    monkeypatch.setenv("COLUMNS", str(columns))
    out = invoke(command, "--help").stdout
    for name in re.findall(r"--[a-z][a-z-]+[a-z]", whole):
        assert re.search(rf"{name}(?![a-z-])", out), name
    assert whole.count("…") == out.count("…")
    if columns >= 80:  # below, a word may be longer than its column
        words = Counter(re.findall(r"[\w'*./:=×]+", whole))
        assert not words - Counter(re.findall(r"[\w'*./:=×]+", out))


def test_asterisks_in_help_are_shown(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in ("60", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        assert "'*.downsample.*'" in invoke("convert", "--help").stdout


def test_nothing_is_coloured_where_nobody_wants_colour(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    for arguments, code in [
        (["--help"], 0),
        (["count", "wrn10_1", "--per-layer"], 0),
        (["count", "resnet5"], 1),
        (["count"], 2),
    ]:
        result = invoke(*arguments, code=code)
        assert "\x1b[3" not in result.stdout + result.stderr
        assert "\x1b[9" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "name", ["with spaces", "Grüße", "網絡-λ", 'it\'s "quoted"', "-dash", "a:b"]
)
def test_odd_names_of_folders_and_files(invoke: Invoke, name: str) -> None:
    folder = Path("deep in", name)
    plan = Path(f"{name} plan.json")
    invoke("convert", "wrn10_1", "--depth", 2, f"--output-dir={folder}", f"--write-plan={plan}")
    out = invoke("count", folder, "--json").stdout
    assert json.loads(out)["network"] == str(folder)
    assert "convolutions rewritten" in invoke("count", folder).stdout
    again = Path("deep in", name + " again")
    invoke("convert", "wrn10_1", f"--plan={plan}", f"--output-dir={again}")
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() == (again / weights).read_bytes()


STAGES = [
    "workflows.locating.locate",
    "networks.build",
    "workflows.planning.trace_network",
    "workflows.planning.make_plan",
    "workflows.converting.count_network",
    "report.counts.layers_table",
    "workflows.converting.rewrite_network",
    "artefact.save",
    "files.write.sync_file",
    "files.write._move_into_place",
    "workflows.converting.write_one",
]


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_at_every_stage_of_convert(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    arguments = ["convert", "wrn10_1", "--depth", 2, "-o", "out", "--write-plan", "plan.json"]
    invoke(*arguments)
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}

    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"seclcompress.{stage}", interrupt)
    result = invoke(*arguments, "--overwrite", "--seed", 1, code=130)
    assert "Interrupted: nothing is half-written." in result.stderr
    after = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    if stage == "workflows.converting.write_one":  # the network was already replaced as a whole
        assert after.pop(Path("out/model.safetensors")) != before.pop(Path("out/model.safetensors"))
        for name in ("config.json", "README.md"):
            del after[Path("out", name)], before[Path("out", name)]
    assert after == before


CONVERT = [sys.executable, "-m", "seclcompress", "convert", "wrn16_1", "-o", "out"]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A folder of another seed, and the seconds that it takes to make one."""
    place = tmp_path_factory.mktemp("converted")
    began = time.monotonic()
    subprocess.run([*CONVERT, "--seed", "9"], cwd=place, env=ENVIRONMENT, check=True)
    return place / "out", time.monotonic() - began


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(part, marks=pytest.mark.exhaustive if part % 2 else pytest.mark.slow)
        for part in range(12)
    ],
)
def test_ctrl_c_in_a_real_process(converted: tuple[Path, float], tmp_path: Path, part: int) -> None:
    """Interrupts at twelve moments, from the import of torch to the last byte of output."""
    folder, seconds = converted
    shutil.copytree(folder, tmp_path / "out")
    process = subprocess.Popen(
        [*CONVERT, "--overwrite"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    # In the first tenth of the time Python itself is starting and prints its own messages.
    time.sleep(seconds * (0.1 + 0.9 * part / 12))
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=120)
    # After the work is done, the shutdown of Python takes a second. A shell shows -2 as 130, too.
    assert process.returncode in (0, 130, -signal.SIGINT), words
    assert "Traceback" not in words
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    files = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert files == ["README.md", "config.json", "manifest.json", "model.safetensors"]


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "seclcompress", *arguments]
    environment = {**ENVIRONMENT, **options.pop("environment", {})}
    return subprocess.run(command, capture_output=True, check=False, env=environment, **options)


#: Python makes UTF-8 of the second one; the third one's streams are as the first one's.
ASCII_ONLY = [
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    pytest.param({"LC_ALL": "C"}, marks=pytest.mark.slow),
    pytest.param({"PYTHONIOENCODING": "ascii"}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("environment", ASCII_ONLY)
def test_a_terminal_that_knows_ascii_only(tmp_path: Path, environment: dict[str, str]) -> None:
    result = run("count", "wrn10_1", "--per-layer", cwd=tmp_path, environment=environment)
    assert result.returncode == 0, result.stderr
    assert b"convolutions rewritten" in result.stdout


@pytest.mark.slow  # test_cli.py has a closed pipe in every run
def test_piped_to_head(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "seclcompress", "count", "wrn40_2", "--per-layer", "--csv"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"name,")
        process.stdout.close()
        assert process.stderr.read() == b""


def pictures(folder: str, classes: tuple[str, ...] = ("cat", "dog")) -> str:
    """A data set of a few pictures; returns the value of --data."""
    colours = dict(zip(classes, COLOURS, strict=False))
    return paint(Path(folder), colours, parts={"train": 2, "val": 2}, size=(30, 40))


TRAIN = ("--epochs", 1, "--batch-size", 2)


def said(result: Any) -> str:
    return " ".join(result.stderr.split())


def test_without_a_command_there_is_help(invoke: Invoke) -> None:
    words = invoke(code=2).stdout
    assert "count" in words
    assert "distill" in words


def test_what_a_network_is_to_see_is_said(invoke: Invoke) -> None:
    """The size at which pictures of several sizes are seen is nobody's choice."""
    data = pictures("set")
    Image.new("RGB", (41, 30)).save("set/train/cat/odd.png")
    words = said(invoke("train", "wrn10_1", "--data", data, *TRAIN, "-o", "out"))
    assert (
        "The pictures of imagefolder:set are resized to 3x32x32, the usual size of wrn10_1."
        in words
    )


def test_mistakes_with_data(invoke: Invoke) -> None:
    train = ("train", "wrn10_1", *TRAIN, "-o", "out", "--data")
    one, two = pictures("one", ("cat",)), pictures("two")
    assert "has one class, cat: there is nothing to tell apart" in said(invoke(*train, one, code=1))
    assert "There is no folder nowhere." in said(invoke(*train, "imagefolder:nowhere", code=1))
    file = "two/train/cat/0.png"
    words = said(invoke(*train, f"imagefolder:{file}", code=1))
    assert f"{file} is a file, not a folder. Name the folder that holds" in words
    Path("empty").mkdir()
    words = said(invoke(*train, "imagefolder:empty", code=1))
    assert "It holds no folders. Class folders alone will do with --validation 0.2." in words
    words = said(invoke(*train, two, "--mean", 128, "--std", 0.2, code=2))
    assert "pixel values are from 0 to 1 here, not to 255: 0.502?" in words
    assert "Value error" not in words
    words = said(invoke(*train, two, "--device", "gpu", code=2))
    assert "--device gpu: it takes cpu, cuda, mps, xpu" in words
    Path(file).write_bytes(Path(file).read_bytes()[:60])
    assert "--bad-images skip leaves such images out." in said(invoke(*train, two, code=1))
    assert not Path("out").exists()


def test_mistakes_with_files(invoke: Invoke) -> None:
    Path("mynet.py").write_text("raise SystemExit")
    words = said(invoke("convert", "mynet.py", "-o", "out", code=1))
    assert "A network in it is named by its function: mynet:FUNCTION." in words
    Path("page.html").touch()
    assert "page.html is a file, and no network." in said(invoke("count", "page.html", code=1))
    invoke("convert", "wrn10_1", "--depth", 2, "-o", "small")
    words = said(invoke("count", "wrn10_1", "--plan", "small/config.json", code=1))
    assert "is the configuration of a saved folder. A plan is what --write-plan writes." in words
    words = said(invoke("export", "small", "-o", "small.pt", code=2))
    assert "--format onnx writes small.onnx; --format torch may be meant." in words
    words = said(invoke("count", "wrn10_1", "--input-size", "1x32x32", code=1))
    assert "Its first convolution takes 3 channels: --input-size 3x32x32." in words
    words = said(invoke("upload", "small", "me", code=2))
    assert "me names no owner: a repository is OWNER/NAME" in words
    words = said(
        invoke("train", "wrn10_1", "--recipe", "no.toml", "--data", "digits", "-o", "out", code=2)
    )
    assert "Cannot read the recipe no.toml: No such file or directory." in words


def test_a_command_does_not_replace_what_it_reads(invoke: Invoke) -> None:
    data = pictures("set")
    invoke("train", "wrn10_1", "--data", data, *TRAIN, "-o", "teacher")
    invoke("convert", "teacher", "--depth", 2, "-o", "student")
    distill = ("distill", "student", "--teacher", "teacher", "--data", data, *TRAIN, "--overwrite")
    for output in ("student", "./teacher"):
        before = {path: path.read_bytes() for path in Path(output).iterdir()}
        assert "is read by this command" in said(invoke(*distill, "-o", output, code=1))
        assert {path: path.read_bytes() for path in Path(output).iterdir()} == before
    again = ("train", "teacher", "--data", data, *TRAIN, "-o", "teacher", "--overwrite")
    assert "is read by this command" in said(invoke(*again, code=1))
    same = ("convert", "teacher", "-o", "teacher", "--overwrite")
    assert "is read by this command" in said(invoke(*same, code=1))


def test_a_teacher_of_another_kind(invoke: Invoke) -> None:
    data = pictures("set")
    invoke("train", "wrn10_1", "--data", data, *TRAIN, "-o", "teacher")
    made = ("--num-classes", 2, "--input-size", 32, "--depth", 2)
    invoke("convert", "resnet18", *made, "-o", "student")
    distill = ("distill", "student", "--teacher", "teacher", "--data", data, *TRAIN, "-o", "out")
    words = said(invoke(*distill, "--untrained-teacher", code=2))
    assert "student is made from resnet18, and the teacher is wrn10_1." in words
    assert "--teacher-input-size" not in words


def test_a_student_that_was_never_converted(invoke: Invoke) -> None:
    data = pictures("set")
    invoke("train", "wrn10_1", "--data", data, *TRAIN, "-o", "teacher")
    invoke("train", "wrn10_1", "--data", data, *TRAIN, "--seed", 1, "-o", "other")
    distill = ("distill", "other", "--teacher", "teacher", "--data", data, *TRAIN, "-o", "out")
    words = said(invoke(*distill, "--untrained-teacher"))
    assert "other is not converted: it is trained as it is." in words


@pytest.mark.parametrize("width", [40, 80])
def test_help_begins_with_what_is_needed(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    words = invoke("distill", "--help").stdout
    places = [words.index(part) for part in ("STUDENT", "--teacher", "--data", "Settings: opt")]
    assert places == sorted(places)


def test_to_go_on_and_to_give_up_exclude_each_other(invoke: Invoke) -> None:
    run = ("--data", "digits", "-o", "out", "--resume", "--overwrite")
    for command in (("train", "wrn10_1"), ("distill", "student", "--teacher", "teacher")):
        assert "say one of the two" in said(invoke(*command, *run, code=2))
