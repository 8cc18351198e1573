"""Ctrl-C where KeyboardInterrupt is swallowed; test_cli_newcomer.py has the other cases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seclcompress.cli import training

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

#: A command that needs no torch, with a Ctrl-C at a place of the test's choice.
PROGRAM = """
import atexit, contextlib, signal, sys, time, weakref
from seclcompress import recipes
from seclcompress.__main__ import main
from seclcompress.cli import app

def ctrl_c(*arguments, **options):
    signal.raise_signal(signal.SIGINT)

class Dropped:
    def __del__(self):
        ctrl_c()

{setting}

sys.argv = ["seclcompress", *{arguments}]
main()
"""

SWALLOWED = """
def fails_because_of_it():
    with contextlib.suppress(KeyboardInterrupt):
        ctrl_c()
    raise ImportError("cannot load module more than once per process")
recipes.names = fails_because_of_it
"""

IN_A_DESTRUCTOR = """
def drops():
    Dropped()
    time.sleep(20)
    return []
recipes.names = drops
"""

IN_A_WEAK_REFERENCE = """
class Target: ...
def drops():
    target = Target()
    reference = weakref.ref(target, ctrl_c)
    del target
    time.sleep(20)
    return []
recipes.names = drops
"""

WHILE_TORCH_IS_IMPORTED = """
class Finder:
    def find_spec(name, *arguments):
        if name == "{module}":
            ctrl_c()
sys.meta_path.insert(0, Finder)
"""

WHILE_PARSING = """
app.info.cls.parse_args = ctrl_c
"""

WHILE_THE_COMMAND_LINE_IS_IMPORTED = """
sys.meta_path.insert(0, type("Finder", (), {"find_spec": ctrl_c}))
del sys.modules["seclcompress.cli"]
"""

AT_PYTHONS_OWN_END = """
@atexit.register
def at_the_end():
    ctrl_c()
    print("went on", flush=True)
"""

ANOTHER_ERROR_OF_A_DESTRUCTOR = """
class Faulty:
    def __del__(self):
        raise ValueError("of a library")
recipes.names = lambda: [Faulty()] and []
"""


def run(setting: str, *arguments: str, ignored: bool = False) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("{setting}", setting)
    program = program.replace("{arguments}", repr(arguments or ("recipes",)))
    # A shell that starts a job in the background makes it ignore SIGINT; so does nohup.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    try:
        return subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
            env=ENVIRONMENT,
        )
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "setting",
    [SWALLOWED, IN_A_DESTRUCTOR, IN_A_WEAK_REFERENCE],
    ids=["swallowed", "in a destructor", "in a weak reference"],
)
def test_a_swallowed_interrupt_is_one(setting: str) -> None:
    result = run(setting)
    assert result.stderr == "Interrupted: nothing is half-written.\n"
    assert result.returncode == 130


def test_an_error_after_a_swallowed_interrupt_keeps_its_words() -> None:
    setting = SWALLOWED.replace("ImportError", "errors.NetworkError")
    result = run("from seclcompress import errors" + setting)
    assert result.stderr == "Error: cannot load module more than once per process\n"
    assert result.returncode == 130


def test_while_the_command_line_is_imported() -> None:
    result = run(WHILE_THE_COMMAND_LINE_IS_IMPORTED)
    assert result.stderr == "Interrupted: nothing is half-written.\n"
    assert result.returncode == 130


@pytest.mark.parametrize("module", ["numpy", "torch.nn", "torchvision.models"])
def test_while_torch_is_imported(module: str) -> None:
    """torch swallows exceptions while it looks for NumPy, so the command would go on to its result."""
    result = run(WHILE_TORCH_IS_IMPORTED.replace("{module}", module), "count", "wrn10_1")
    assert result.stderr == "Interrupted: nothing is half-written.\n"
    assert result.stdout == ""
    assert result.returncode == 130


def test_debug_shows_what_failed_because_of_it() -> None:
    result = run(SWALLOWED, "--debug", "recipes")
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("Interrupted: nothing is half-written.\n")
    assert result.returncode == 130


def test_a_run_of_hours_does_not_begin_after_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seclcompress.interrupt._arrived", signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), training.stopping_softly(lambda: None):
        raise AssertionError("it began")


def test_in_a_thread() -> None:
    """Python handles signals in the main thread only."""
    program = (
        "import threading\nthread = threading.Thread(target=main)\nthread.start()\nthread.join()"
    )
    setting = f"sys.argv = ['seclcompress', 'recipes']\n{program}"
    result = run(setting)
    assert result.stdout.count("secl-cifar") == 2
    assert result.stderr == ""


def test_while_the_arguments_are_read() -> None:
    result = run(WHILE_PARSING)
    assert "Traceback" not in result.stderr
    assert result.returncode == 130


def test_after_the_work_it_ends_the_process_at_once() -> None:
    result = run(AT_PYTHONS_OWN_END)
    assert "went on" not in result.stdout
    assert result.stderr == ""
    assert result.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    "setting",
    [IN_A_DESTRUCTOR.replace("20", "0"), AT_PYTHONS_OWN_END],
    ids=["while at work", "at the end"],
)
def test_ignored_as_under_nohup(setting: str) -> None:
    result = run(setting, ignored=True)
    assert result.stderr == ""
    assert result.returncode == 0


def test_what_else_goes_wrong_in_a_destructor_is_shown() -> None:
    result = run(ANOTHER_ERROR_OF_A_DESTRUCTOR)
    assert "ValueError: of a library" in result.stderr
    assert result.returncode == 0
