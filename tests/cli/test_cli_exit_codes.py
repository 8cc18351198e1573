"""Exit codes and words of every command: 2 for wrong usage, 1 for a person's files, 130 for Ctrl-C."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
from conftest import Invoke
from every_command import EVERY, ON_A_NETWORK
from typer.main import get_command

from seclcompress import networks
from seclcompress.cli import app, console

#: `survey` takes a pattern of names.
ON_A_FOLDER = {name: rest for name, rest in ON_A_NETWORK.items() if name != "survey"}
#: The folders alone.
NEEDS_A_FOLDER = ("report", "upload")
#: What each command with an output writes, and the words for one that is there.
OUTPUTS = {
    command: next(iter(rest.partition("-o ")[2:])) for command, rest in ON_A_NETWORK.items()
} | {"plan": "plan.json"}
WITH_DATA = {
    **{name: rest for name, rest in ON_A_NETWORK.items() if "--data" in rest},
    "slim": "--budget parameters=40k -o out --data digits",
    "export": "-o out.onnx --data digits",
    "report": "-o out.html --data digits",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights of wrn10_1."""
    path = tmp_path_factory.mktemp("whole") / "weights.safetensors"
    safetensors.torch.save_file(networks.build(networks.named_spec("wrn10_1")).state_dict(), path)
    return path


def words_of(result: object) -> str:
    return " ".join(result.stderr.replace("│", " ").split())  # type: ignore[attr-defined]


def test_no_command_is_left_out() -> None:
    assert set(get_command(app).commands) == set(EVERY)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", EVERY)
def test_an_unknown_option(invoke: Invoke, command: str) -> None:
    said = words_of(invoke(command, "--no-such-option", code=2))
    assert "No such option: --no-such-option" in said
    assert f"Try 'seclcompress {command} -h' for help." in said


@pytest.mark.parametrize("command", ON_A_FOLDER)
def test_a_folder_that_is_not_there(invoke: Invoke, command: str) -> None:
    rest = ON_A_FOLDER[command].split()
    result = invoke(command, "no/such", *rest, code=1)
    assert words_of(result) == "Error: There is no folder no/such."
    assert result.stdout == ""
    said = words_of(invoke(command, "nosuch", *rest, code=1))
    assert said.endswith("There is no folder nosuch.")
    assert ("Unknown network 'nosuch'" in said) is (command not in NEEDS_A_FOLDER)
    assert not list(Path().iterdir())


@pytest.mark.parametrize("command", ["distill", "recover", "tune", "train"])
def test_another_folder_that_is_not_there(invoke: Invoke, converted: Path, command: str) -> None:
    given = {
        "distill": [converted, "--teacher", "no/such", "--data", "digits"],
        "recover": [converted, "--teacher", "no/such", "--data", "digits"],
        "tune": ["wrn10_1", "--data", "imagefolder:no/such", "--search", "lr=0.1,0.2"],
        "train": ["wrn10_1", "--data", "imagenet:no/such"],
    }[command]
    said = words_of(invoke(command, *given, "-o", "out", code=1))
    assert said.endswith("Error: There is no folder no/such.")
    assert not list(Path().iterdir())


@pytest.mark.parametrize("command", ON_A_FOLDER)
def test_a_file_where_a_folder_is_meant(invoke: Invoke, command: str) -> None:
    Path("file").touch()
    said = words_of(invoke(command, "./file", *ON_A_FOLDER[command].split(), code=1))
    assert said == "Error: file is a file, not a folder."


@pytest.mark.parametrize("command", [name for name, output in OUTPUTS.items() if output])
def test_an_output_that_is_there(invoke: Invoke, converted: Path, command: str) -> None:
    output = Path(OUTPUTS[command])
    if output.suffix:
        output.write_text("mine")
    else:
        output.mkdir()
        (output / "mine.txt").touch()
    network = converted if command in ("recover", "distill", "report") else "wrn10_1"
    rest = ON_A_NETWORK[command] + (f" -o {output}" if command == "plan" else "")
    said = words_of(invoke(command, network, *rest.split(), code=1))
    assert f"{output} is there already" in said
    assert output.read_text() == "mine" if output.suffix else (output / "mine.txt").exists()
    assert list(Path().iterdir()) == [output]


@pytest.mark.parametrize("command", WITH_DATA)
def test_a_data_set_that_does_not_exist(
    invoke: Invoke, converted: Path, whole: Path, command: str
) -> None:
    network: list[object] = ["wrn10_1" if command == "slim" else converted]
    if command in ("recover", "distill"):
        network += ["--teacher-weights", whole]

    def said(data: str, code: int) -> str:
        rest = WITH_DATA[command].replace("digits", data).split()
        return words_of(invoke(command, *network, *rest, code=code))

    assert "Error: Unknown data 'nosuch'. There are: digits, cifar10, " in said("nosuch", 2)
    assert said("imagefolder:no/such", 1).endswith("Error: There is no folder no/such.")
    assert not list(Path().iterdir())


@pytest.mark.parametrize("command", EVERY)
def test_interrupted(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    class Interrupted:
        @property
        def is_terminal(self) -> bool:
            raise KeyboardInterrupt

    monkeypatch.setattr(console, "err_console", Interrupted())  # what `loading` asks first
    rest = ["x", *ON_A_NETWORK[command].split()] if command in ON_A_NETWORK else []
    if command == "recipes":
        rest = ["--json"]
    result = invoke(command, *rest, code=130)
    assert words_of(result) == "Interrupted: nothing is half-written."
    assert not list(Path().iterdir())
