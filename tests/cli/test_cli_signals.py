"""Signals of real processes: `kill`, a closed terminal, and schedulers that warn before they kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from seclcompress import interrupt
from seclcompress.checkpoint import has_checkpoint

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "OMP_NUM_THREADS": "1",
}
TRAIN = "train wrn10_1 --data digits --epochs 500 --batch-size 50 --train-images 200 -o out".split()


#: Each signal in one situation, and each situation, in every run of the tests; the other pairs are slow.
#: A hangup of a run is that of the terminal which is closed, below.
QUICK = {
    "a run": "SIGTERM",
    "while torch is imported": "SIGUSR1",
    "while a folder is written": "SIGXCPU",
}


def signals(situation: str) -> list[Any]:
    """Pairs of a situation and a signal that ends a program."""
    return [
        pytest.param(
            situation,
            number,
            id=f"{situation}-{number.name}",
            marks=[] if number.name == QUICK[situation] else [pytest.mark.slow],
        )
        for number in interrupt.ENDING
    ]


def start(*arguments: str, folder: Path, code: str = "") -> subprocess.Popen[str]:
    program = f"""
import os, signal, sys, time
from seclcompress.__main__ import main
{code}
sys.argv = ["seclcompress", *{arguments!r}]
main()
"""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(("situation", "number"), signals("a run"))
def test_a_run_saves_its_state(situation: str, number: signal.Signals, tmp_path: Path) -> None:
    process = start(*TRAIN, folder=tmp_path)
    partial = tmp_path / "out.partial"
    wait_for(partial / "checkpoint.safetensors", process)
    before = (partial / "checkpoint.safetensors").stat().st_mtime_ns
    process.send_signal(number)
    _, words = process.communicate(timeout=120)
    assert process.returncode == 130, words
    assert "Stopped: " in words
    assert "the same command with --resume goes on." in words
    assert "Error" not in words
    assert (partial / "checkpoint.safetensors").stat().st_mtime_ns > before
    assert has_checkpoint(partial)


#: Sends the signal to its own process when torch is imported, or in the middle of a conversion.
MOMENTS = {
    "while torch is imported": """
class Finder:
    def find_spec(name, *arguments):
        if name == "torchvision.models":
            os.kill(os.getpid(), {number})
            time.sleep(5)
sys.meta_path.insert(0, Finder)
""",
    "while a folder is written": """
import seclcompress.files.write as write
sync = write.sync_folder
def signalled(folder):
    sync(folder)
    os.kill(os.getpid(), {number})
    time.sleep(5)
write.sync_folder = signalled
""",
}


@pytest.mark.parametrize(
    ("moment", "number"), [pair for moment in MOMENTS for pair in signals(moment)]
)
def test_any_other_command_ends_with_a_word(
    moment: str, number: signal.Signals, tmp_path: Path
) -> None:
    code = MOMENTS[moment].replace("{number}", str(int(number)))
    process = start("convert", "wrn10_1", "-o", "out", folder=tmp_path, code=code)
    _, words = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert f"Ended by {number.name}: nothing is half-written." in words
    assert list(tmp_path.iterdir()) == []


def test_a_hangup_is_ignored_under_nohup(tmp_path: Path) -> None:
    code = "signal.signal(signal.SIGHUP, signal.SIG_IGN)" + MOMENTS["while a folder is written"]
    code = code.replace("time.sleep(5)", "pass").replace("{number}", str(int(signal.SIGHUP)))
    process = start("convert", "wrn10_1", "-o", "out", folder=tmp_path, code=code)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert (tmp_path / "out" / "config.json").is_file()


def test_a_run_in_a_terminal_that_is_closed_saves_its_state(tmp_path: Path) -> None:
    """The terminal takes no words any more; the state is saved all the same."""
    import pty

    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, "-m", "seclcompress", *TRAIN], ENVIRONMENT)
    file = tmp_path / "out.partial" / "checkpoint.safetensors"
    os.set_blocking(terminal, False)
    until = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < until
        try:
            os.read(terminal, 2**16)  # what the progress bar draws
        except BlockingIOError:
            time.sleep(0.02)
    before = file.stat().st_mtime_ns
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert file.stat().st_mtime_ns > before
