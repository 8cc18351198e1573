"""The seconds in which torch is imported are not silent on a terminal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Invoke
from every_command import LISTING, ON_A_NETWORK

from seclcompress.cli import console

COMMANDS = {
    **{command: f"x {rest}" for command, rest in ON_A_NETWORK.items()},
    **dict.fromkeys(LISTING, "--json"),
    "schema": "",
}

# torch cannot be imported in this process: whoever tries is told what the terminal shows at that moment.
TRY_ALL = f"""
import io, json, sys
from typer.testing import CliRunner
from seclcompress.cli import app, console

class Terminal(io.StringIO):
    def isatty(self):
        return True

class Wanted(Exception):
    pass

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "torchvision"):
            raise Wanted(terminal.getvalue())

sys.meta_path.insert(0, NoTorch())
found = {{}}
for command, rest in {COMMANDS!r}.items():
    terminal = console.err_console.file = Terminal()
    done = CliRunner().invoke(app, ["--debug", command, *rest.split()])
    found[command] = [repr(done.exception), str(done.exception), terminal.getvalue()]
print(json.dumps(found))
"""


def test_every_command_says_so_while_it_imports_torch() -> None:
    from typer.main import get_command

    from seclcompress.cli import app

    assert set(get_command(app).commands) == set(COMMANDS)  # type: ignore[attr-defined]
    done = subprocess.run(
        [sys.executable, "-c", TRY_ALL],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""},
        timeout=60,
    )
    for command, (error, shown, afterwards) in json.loads(done.stdout).items():
        assert error.startswith("Wanted("), f"{command}: {error}"
        assert shown == "Loading torch …\r", command
        assert afterwards == shown + " " * 15 + "\r", command


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    shown = Terminal()
    monkeypatch.setattr(console.err_console, "_file", shown)
    return shown


def test_it_is_on_standard_error_alone(invoke: Invoke, terminal: Terminal) -> None:
    out = invoke("networks", "resnet18*", "--json").stdout
    assert json.loads(out)["command"] == "networks"
    assert "Loading" in terminal.getvalue()


def test_not_before_a_usage_error(invoke: Invoke, terminal: Terminal) -> None:
    invoke("count", "wrn10_1", "--input-size", "big", code=2)
    assert "Loading" not in terminal.getvalue()


@pytest.mark.parametrize("silent", [("-q",), ("--log-level", "error")])
def test_not_under_quiet(invoke: Invoke, terminal: Terminal, silent: tuple[str, ...]) -> None:
    invoke(*silent, "networks", "resnet18*")
    assert terminal.getvalue() == ""


def test_nowhere_but_on_a_terminal(invoke: Invoke) -> None:
    assert "Loading" not in invoke("networks", "resnet18*").stderr
