"""Completion of commands and options by the shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = f"{sys.executable} -m seclcompress"


def in_bash(command: str, **more: str) -> str:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    done = subprocess.run(
        [bash, "--norc", "-c", f"{command}; exit $?"],  # no exec: the program looks for its shell
        env={**os.environ, "PYTHONPATH": str(ROOT), **more},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [("co", ["count", "convert"]), ("count --per", ["--per-layer"]), ("--ver", ["--version"])],
)
def test_what_is_offered(words: str, offered: list[str]) -> None:
    asked = {
        "_SECLCOMPRESS_COMPLETE": "complete_bash",
        "COMP_WORDS": f"seclcompress {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    assert sorted(in_bash(PROGRAM, **asked).split()) == sorted(offered)


def test_the_script_is_for_the_command_by_its_name() -> None:
    script = in_bash(f"{PROGRAM} --show-completion")
    assert script.rstrip().endswith("complete -o default -F _seclcompress_completion seclcompress")
    in_bash(script.strip())


def test_installing(tmp_path: Path) -> None:
    in_bash(f"{PROGRAM} --install-completion", HOME=str(tmp_path))
    [script] = (tmp_path / ".bash_completions").iterdir()
    assert script.name == "seclcompress.sh"
    assert str(script) in (tmp_path / ".bashrc").read_text(encoding="utf-8")
