"""Options that would do nothing are refused, whatever they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from conftest import Invoke

from seclcompress.cli import app
from seclcompress.settings.training import DISTILLATION, EVALUATION

#: Values that are not the defaults, of options that do not take a 2.
_VALUES = {
    "assign": "group3=separable",
    "cost_model": "measured",
    "device": "cuda",
    "execution": "fast",
    "input_size": "32",
    "num_classes": "7",
    "option": "depth=3",
    "preprocessing": "plain",
    "cache_images": "never",
    "bad_images": "skip",
    "validation": "0.3",
    "mean": "0.5",
    "std": "0.5",
    "alpha": "0.3",
    "kd": "dkd",
    "runtime": "torch",
    "objective": "time",
    "substitution": "separable",
}
_COMMANDS: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def _options(command: str, but: tuple[str, ...] = ()) -> list[Any]:
    left_out = {"help", *but}
    return [
        parameter
        for parameter in _COMMANDS[command].params
        if parameter.param_type_name == "option" and parameter.name not in left_out
    ]


def _flag(option: Any) -> str:
    return max(option.opts, key=len)


def _words(option: Any) -> list[str]:
    """The option as on the command line, with a value that it takes."""
    if option.is_flag:
        return [_flag(option)]
    return [_flag(option), _VALUES.get(option.name, "2")]


_OF_FILES = ("batch_size", "threads", "rounds", "json")
_OF_EVALUATED_FILES = (
    *("data", "data_dir", "download", "json", "by_class"),
    *(name for name in EVALUATION if name != "device"),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from seclcompress import workflows

    path = tmp_path_factory.mktemp("given") / "it.onnx"
    workflows.export("wrn10_1", path, num_classes=10, input_size=(3, 16, 16))
    return path


@pytest.mark.parametrize("option", _options("bench", _OF_FILES), ids=_flag)
def test_a_file_is_timed_as_it_is(invoke: Invoke, file: Path, option: Any) -> None:
    result = invoke("bench", file, *_words(option), code=2)
    said = " ".join(result.stderr.split())
    assert f"is an exported file, which is run as it is: drop {_flag(option)}." in said


def test_all_of_them_are_named(invoke: Invoke, file: Path) -> None:
    given = ("--depth", 12, "--runtime", "torch", "--batch-size", 2)
    result = invoke("bench", file, *given, code=2)
    assert "drop --runtime, --depth." in " ".join(result.stderr.split())


@pytest.mark.parametrize("option", _options("evaluate", _OF_EVALUATED_FILES), ids=_flag)
def test_a_file_is_evaluated_as_it_is(invoke: Invoke, file: Path, option: Any) -> None:
    result = invoke("evaluate", file, "--data", "digits", *_words(option), code=2)
    said = " ".join(result.stderr.split())
    assert f"is an exported file, which is run as it is: drop {_flag(option)}." in said


@pytest.mark.parametrize(
    "option",
    [
        *(("export", one) for one in _options("export") if one.name in (*EVALUATION, "data_dir")),
        *(("report", one) for one in _options("report") if one.name in (*EVALUATION, "data_dir")),
        ("report", next(one for one in _options("report") if one.name == "download")),
    ],
    ids=lambda pair: f"{pair[0]} {_flag(pair[1])}",
)
def test_what_is_said_of_data_needs_data(invoke: Invoke, option: tuple[str, Any]) -> None:
    command, one = option
    network, output = ("wrn10_1", "it.onnx") if command == "export" else ("small", "page.html")
    result = invoke(command, network, "-o", output, *_words(one), code=2)
    said = " ".join(result.stderr.split())
    assert f"{_flag(one)} does nothing without --data: give that, or drop it." in said
    assert not Path(output).exists()


def test_export_takes_no_device(invoke: Invoke) -> None:
    result = invoke("export", "wrn10_1", "-o", "it", "--device", "cpu", code=2)
    assert "--device" in result.stderr


def test_export_downloads_data_or_weights(invoke: Invoke) -> None:
    result = invoke("export", "wrn10_1", "-o", "it.onnx", "--download", code=2)
    assert "--download does nothing without --data or --weights-file" in " ".join(
        result.stderr.split()
    )
    invoke("export", "small", "-o", "it.onnx", "--download", "--weights-file", "no.pth", code=1)


def test_export_names_its_own_options_of_weights(invoke: Invoke, tmp_path: Path) -> None:
    given = ("export", "wrn10_1", "-o", "it.onnx")
    result = invoke(*given, "--weights-key", "model", code=2)
    assert "--weights-key does nothing without --weights-file" in " ".join(result.stderr.split())
    result = invoke(*given, "--weights-file", "DEFAULT", code=2)
    assert "--weights-file DEFAULT: there is no such file" in " ".join(result.stderr.split())
    torch.save({"model": {"a": torch.ones(1)}, "ema": {"a": torch.ones(1)}}, "two.pth")
    result = invoke(*given, "--weights-file", "two.pth", "--weights-key", "nothing", code=1)
    said = " ".join(result.stderr.split())
    assert "--weights-key" in said
    assert "--weights-file-key" not in said


def test_a_folder_for_other_data_is_said_to_change_nothing(invoke: Invoke, file: Path) -> None:
    result = invoke("evaluate", file, "--data", "digits", "--data-dir", "elsewhere")
    words = "--data-dir elsewhere: digits does not lie there, so it changes nothing."
    assert words in " ".join(result.stderr.split())
    assert "--data-dir" not in invoke("evaluate", file, "--data", "digits").stderr


@pytest.mark.parametrize("option", DISTILLATION)
def test_what_is_said_of_a_teacher_needs_one(invoke: Invoke, option: str) -> None:
    flag = f"--{option.replace('_', '-')}"
    value = () if option == "standardize_logits" else (_VALUES.get(option, "2"),)
    given = ("--search", "lr=0.1,0.2", flag, *value, "--untrained-teacher")
    result = invoke("tune", "wrn10_1", "--data", "digits", "-o", "study", *given, code=2)
    words = f"--untrained-teacher, {flag} do nothing without --teacher"
    said = " ".join(result.stderr.split())
    assert words in said or f"{flag}, --untrained-teacher do nothing without" in said
    assert not Path("study").exists()


@pytest.mark.parametrize("command", ["export", "report"])
def test_what_needs_no_data_is_not_refused(invoke: Invoke, command: str) -> None:
    """It comes as far as the missing folder."""
    needs = {*EVALUATION, "data_dir", "download", "data", "output", "format", "weights", "dtype"}
    needs |= {"weights_file", "weights_key"}
    free = list(_options(command, tuple(needs)))
    assert {"json", "overwrite", "factory"} <= {one.name for one in free}
    output = "it.onnx" if command == "export" else "page.html"
    given = [word for one in free for word in _words(one)]
    result = invoke(command, "./nowhere", "-o", output, *given, code=1)
    assert "There is no folder" in result.stderr


def test_what_is_given_as_its_default_is_given(invoke: Invoke) -> None:
    result = invoke("report", "small", "-o", "page.html", "--batch-size", 128, code=2)
    assert "--batch-size does nothing without --data" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("options", "flag", "why"),
    [
        (["--optimizer", "adamw", "--momentum", 0.9], "--momentum", "--optimizer is adamw"),
        (["--symmetry-norm", "l2"], "--symmetry-norm", "--symmetry-penalty is 0"),
        (["--alpha", 0, "--temperature", 2], "--temperature", "--alpha is 0"),
        (["--alpha", 0, "--standardize-logits"], "--standardize-logits", "--alpha is 0"),
        (["--dkd-others", 2], "--dkd-others", "--kd is kd, not dkd"),
        (["--recipe", "secl-cifar", "--temperature", 2], "--temperature", "--alpha is 0"),
        (["--beta", 0, "--taps", "group1"], "--taps", "--beta is 0"),
    ],
)
def test_settings_without_effect_beside_others(
    invoke: Invoke, options: list[object], flag: str, why: str
) -> None:
    command = ("distill", "small", "--teacher", "big", "--data", "digits", "-o", "out")
    said = " ".join(invoke(*command, *options, code=2).stderr.split())
    assert f"{flag} does nothing here: " in said
    assert why in said


def test_a_recipe_may_hold_settings_without_effect(invoke: Invoke) -> None:
    Path("mine.toml").write_text('optimizer = "adamw"\nmomentum = 0.5\n')
    command = ("distill", "small", "--teacher", "big", "--data", "digits", "-o", "out")
    assert "momentum" not in invoke(*command, "--recipe", "mine.toml", code=1).stderr


@pytest.mark.parametrize("option", [["-o", "out"], ["--seed", 3], ["--start", "original"]])
def test_a_plan_alone_takes_nothing_of_a_network(invoke: Invoke, option: list[object]) -> None:
    said = " ".join(invoke("convert", "wrn10_1", "--dry-run", *option, code=2).stderr.split())
    assert "does nothing beside --dry-run (no network is made)" in said
