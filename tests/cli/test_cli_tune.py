"""`tune` on the command line: exit codes, words, real processes that are stopped and killed."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Invoke
from test_cli_signals import start, wait_for

from seclcompress import recipes

TUNE = (
    "tune wrn10_1 --data digits --train-images 100 --input-size 8 --epochs 2 --search lr=0.01..0.2:log "
    "--search batch_size=20,50 --search factor_decay=ratio,1e-6 --trials 2 -o out"
).split()
LONG = [*TUNE, "--epochs", "15", "--trials", "3"]


def flat(words: str) -> str:
    return " ".join(words.split())


def test_a_study_and_its_recipe(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(*TUNE)
    titles, *rows = done.stdout.splitlines()
    assert titles.split() == "trial state epochs held out % lr batch_size factor_decay".split()
    assert len(rows) == 2
    words = flat(done.stderr)
    assert "Trials are compared on 0.1 of the training images, which are held out" in words
    assert (
        words.count("batch_size 20") == 1
    )  # the settings are printed once, then only what differs
    found = re.search(
        r"Wrote out/recipe.toml: trial (\d), (\S+) % of the held-out images right, (\S+) % of the test",
        words,
    )
    assert found is not None
    assert rows[0].split()[0] == found[1]
    assert rows[0].split()[3] == found[2]
    again = invoke(*TUNE)
    assert again.stdout == done.stdout
    assert "Trial 0" not in again.stderr
    monkeypatch.setenv("COLUMNS", "40")
    narrow = invoke(*TUNE)
    assert all(len(line.rstrip()) <= 40 for line in narrow.stdout.splitlines())
    assert set(flat(done.stdout).split()) - set(flat(narrow.stdout).split()) <= set(titles.split())
    monkeypatch.setenv("COLUMNS", "100")
    settings = recipes.make_settings("out/recipe.toml", {})
    assert (settings.epochs, settings.validation) == (2, None)
    invoke(
        *("train", "wrn10_1", "--data", "digits", "--input-size", 8, "--recipe", "out/recipe.toml"),
        *("--epochs", 1, "-o", "trained"),
    )


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--search", "lrr=1,2"), 2, "--search lrr=1,2: there is no setting lrr. Did you mean lr?"),
        (("--search", "alpha=0..1"), 2, "alpha is used with a teacher only"),
        (("--lr", "-1"), 2, "--lr: Input should be greater than 0"),
        (("--trials", "0"), 2, "--trials"),
        (("--least-epochs", "3"), 2, "a trial has 2 epochs altogether"),
        (("--teacher-weights", "x"), 2, "there is no --teacher"),
        (("--input-size", "0"), 2, "--input-size 0"),
        (("--data", "digit"), 2, "Unknown data 'digit'"),
        (("--teacher", "nowhere/none"), 1, "nowhere/none"),
    ],
)
def test_what_cannot_work(invoke: Invoke, more: tuple[str, ...], code: int, words: str) -> None:
    assert words in flat(invoke(*TUNE, *more, code=code).stderr)
    assert not Path("out").exists()


def test_nothing_to_try_and_no_optuna(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    words = invoke("tune", "wrn10_1", "--data", "digits", "-o", "out", code=2).stderr
    assert "--search" in words
    monkeypatch.setitem(sys.modules, "optuna", None)
    words = flat(invoke(*TUNE, code=2).stderr)
    assert "tune needs optuna, which is not installed: pip install 'seclcompress[tune]'" in words
    assert not Path("out").exists()


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(Path("out/trials.csv").read_text().splitlines()))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_stopped_and_gone_on(invoke: Invoke, tmp_path: Path) -> None:
    process = start(*LONG, folder=tmp_path)
    wait_for(tmp_path / "out.trials" / "trial-0000.partial" / "checkpoint.safetensors", process)
    process.send_signal(signal.SIGINT)
    out, words = process.communicate(timeout=120)
    assert process.returncode == 130, words
    assert out == ""
    stopped = (
        "Stopped: 0 trials are done, and trial 0 is saved in out.trials; the same command goes"
    )
    assert stopped in flat(words)
    [begun] = rows()
    assert begun["state"] == "open"
    words = flat(invoke(*LONG, "--trials", 1).stderr)
    assert "Trial 0 was begun before: going on with it." in words
    assert f"Going on after epoch {begun['epochs']}, step " in words
    [done] = rows()
    assert (done["state"], done["epochs"], done["lr"]) == ("finished", "15", begun["lr"])
    refused = flat(invoke(*LONG, "--momentum", 0.5, code=2).stderr)
    assert "The study in out was begun with other settings: momentum was 0.9, not 0.5." in refused


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs kill -9 and locks")
def test_killed_and_gone_on_by_two_processes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    process = start(*LONG, folder=tmp_path)
    wait_for(tmp_path / "out.trials" / "trial-0000.partial" / "checkpoint.safetensors", process)
    process.kill()
    process.communicate()
    two: list[subprocess.Popen[str]] = [start(*LONG, folder=tmp_path) for _ in range(2)]
    ended = [one.communicate(timeout=300) for one in two]
    assert [one.returncode for one in two] == [0, 0], ended
    words = [flat(stderr) for _, stderr in ended]
    assert sum("Trial 0 was begun before: going on with it." in said for said in words) == 1
    assert sum("Going on after epoch " in said for said in words) == 1
    for number in range(3):  # each trial is done once
        assert sum(f"Trial {number} (lr " in said for said in words) == 1
    assert [row["state"] for row in rows()].count("open") == 0
    assert {row["state"] for row in rows()} <= {"finished", "stopped"}
    assert len({row["lr"] for row in rows()}) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
