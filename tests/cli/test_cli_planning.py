"""Planning options: from a command line to `PlanOptions`."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from conftest import Invoke

from seclcompress.cli import app
from seclcompress.cli.planning import parse_assignment, parse_config
from seclcompress.errors import UsageError
from seclcompress.settings import Assignment, PlanOptions

#: The modules of the workflows.
MODULES = {"count": "counting", "convert": "converting", "bench": "benching"}


@pytest.fixture
def asked(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns the planning options that a command passes to its workflow."""

    class EnoughError(UsageError):
        pass

    def run(command: str, *arguments: object) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def watch(*network: object, **given: Any) -> None:
            seen.update(given)
            raise EnoughError("enough")

        monkeypatch.setattr(f"seclcompress.workflows.{MODULES[command]}.{command}", watch)
        assert "enough" in invoke(command, *arguments, code=2).stderr
        return seen

    return run


EVERYTHING = (
    "--substitution acdc --depth 3 --option init=paper --assign layer4=separable "
    "--assign fc=acdc:depth=4,init=paper --keep a --keep b.* --only c --stem --linear --head "
    "--min-channels 7 --cost-model measured --channels-last --runtime torch --objective time "
    "--no-whole-network"
).split()


@pytest.mark.parametrize("command", ["count", "convert"])
def test_every_option_arrives(asked: Any, command: str) -> None:
    extra = ["--dry-run"] if command == "convert" else []
    found = asked(command, "wrn10_1", *EVERYTHING, *extra)
    assert found["options"] == PlanOptions(
        substitution="acdc",
        config={"init": "paper", "depth": "3"},
        assign=(
            Assignment(pattern="layer4", substitution="separable"),
            Assignment(pattern="fc", substitution="acdc", config={"depth": "4", "init": "paper"}),
        ),
        keep=("a", "b.*"),
        only=("c",),
        stem=True,
        linear=True,
        head=True,
        min_channels=7,
        cost_model="measured",
        channels_last=True,
        runtime="torch",
        objective="time",
        whole_network=False,
    )
    assert found["plan"] is None
    # Every field of PlanOptions occurs above.
    assert found["options"].model_fields_set == set(PlanOptions.model_fields)


def test_nothing_asked_is_nothing(asked: Any) -> None:
    assert asked("count", "wrn10_1")["options"] is None
    assert asked("bench", "wrn10_1")["options"] is None
    assert asked("count", "wrn10_1", "--substitution", "acdc")["options"] == PlanOptions(
        substitution="acdc"
    )


def test_bench_asks_the_clock(asked: Any) -> None:
    found = asked("bench", "wrn10_1", "--stem")["options"]
    assert (found.cost_model, found.stem) == ("measured", True)
    found = asked("bench", "wrn10_1", "--cost-model", "paper")["options"]
    assert found.cost_model == "paper"


def test_a_plan_stands_alone(asked: Any, invoke: Invoke) -> None:
    found = asked("count", "wrn10_1", "--plan", "plan.json")
    assert (str(found["plan"]), found["options"]) == ("plan.json", None)
    flags = ("--plan", "p.json", "--assign", "a=separable", "--min-channels", 2)
    words = invoke("count", "wrn10_1", *flags, code=2).stderr
    assert "decided already what --assign, --min-channels would" in " ".join(words.split())


def flags(command: str) -> set[str]:
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {flag for one in parameters for flag in (*one.opts, *one.secondary_opts)}


def test_commands_take_what_they_have_a_use_for() -> None:
    every = {flag for flag in EVERYTHING if flag.startswith("--")} | {"--plan"}
    assert every <= flags("count")
    assert every <= flags("convert")
    assert every - flags("bench") == {"--channels-last"}
    patterns = {"--assign", "--keep", "--only"}
    assert every - flags("survey") == patterns | {"--plan", "--no-whole-network"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--depth", 3, "--substitution", "separable"), "separable takes no option depth"),
        (("--depth", 3, "--substitution", "separable"), "It takes: none."),
        (("--assign", "layer4"), "--assign layer4: it takes PATTERN=NAME, as in layer4=separable"),
        (("--assign", "=separable"), "it takes PATTERN=NAME"),
        (("--assign", "layer4="), "it takes PATTERN=NAME"),
        (("--assign", "layer4=acdc:"), "it takes PATTERN=NAME"),
        (("--assign", "layer4=acdc:depth"), "it takes PATTERN=NAME"),
        (("--assign", "layer4=acdc:depth=1,depth=2"), "depth is given twice: 1 and 2"),
        (("--assign", "layer4=acdcc"), "Unknown substitution 'acdcc'. Did you mean acdc"),
        (("--assign", "a=separable:depth=1"), "a=separable: separable takes no option depth"),
        (("--assign", "a=acdc:depth=0"), "depth: Input should be greater than or equal to 1"),
        (("--min-channels", 0), "Invalid value for '--min-channels'"),
        (("--channels-last",), "add --cost-model measured"),
    ],
)
def test_said_in_words(invoke: Invoke, arguments: tuple[object, ...], words: str) -> None:
    result = invoke("count", "wrn10_1", *arguments, code=2)
    assert words in " ".join(result.stderr.replace("│", " ").split())


def test_help_shows_patterns_as_they_are_typed(invoke: Invoke) -> None:
    assert "'*.downsample.*'" in invoke("count", "--help").stdout


def test_reading_pairs_and_assignments() -> None:
    assert parse_config(["a=1", "b=x=y"], 3) == {"a": "1", "b": "x=y", "depth": "3"}
    assert parse_config([]) == {}
    found = parse_assignment("*.conv[12]=acdc:depth=4")
    assert found == Assignment(pattern="*.conv[12]", substitution="acdc", config={"depth": "4"})
