"""`kill -9` at any moment leaves the old folder or the new one, never a broken one.

The tests kill before every line of the code that writes, and (slow) at 200 random moments of commands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seclcompress.files import system

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run(script: str, folder: Path, *arguments: str) -> dict[str, int]:
    result = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("before", ["there_before", "missing"])
def test_before_every_line_of_a_folders_writing(tmp_path: Path, before: str) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    if not system.exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this system or file system cannot exchange names")
    (tmp_path / "run").mkdir()
    moments = run("kill_lines.py", tmp_path / "run", before)
    old = "old" if before == "there_before" else "missing"
    assert set(moments) == {old, "new"}
    assert min(moments.values()) > 10


@pytest.mark.parametrize("before", ["there_before", "missing"])
def test_the_same_where_names_cannot_be_exchanged(tmp_path: Path, before: str) -> None:
    """At one moment the folder is missing; test_files.py checks that the error names where it is."""
    moments = run("kill_lines.py", tmp_path, before, "two_steps")
    if before == "there_before":
        assert set(moments) == {"old", "old set aside", "new"}
        assert moments["old set aside"] < 10
    else:
        assert set(moments) == {"missing", "new"}


def test_before_every_line_of_a_files_writing(tmp_path: Path) -> None:
    moments = run("kill_lines.py", tmp_path, "file")
    assert set(moments) == {"old", "new"}
    assert sum(moments.values()) > 10


@pytest.mark.parametrize("before", ["there_before", "missing"])
def test_before_every_line_of_a_file_in_a_run_in_progress(tmp_path: Path, before: str) -> None:
    """After every kill the manifest names all files, also one of a kind that no list of names has."""
    moments = run("kill_lines.py", tmp_path, "parts", before)
    assert set(moments) == {"old", "new"}
    assert sum(moments.values()) > 30


@pytest.mark.parametrize(
    "kills",
    [pytest.param(20, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.exhaustive)],
)
@pytest.mark.parametrize("command", ["convert", "distill"])
def test_whole_commands_at_random_moments(tmp_path: Path, command: str, kills: int) -> None:
    """Half of the kills come after the temporary new folder has appeared."""
    counted = run("kill_commands.py", tmp_path, command, str(kills))
    assert counted["killed"] == kills
    assert counted["old"] + counted["new"] == kills
    assert min(counted["old"], counted["new"]) > 0, counted
    assert (counted["with_partial"] > 0) == (command == "distill")
