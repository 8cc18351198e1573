"""Model cards: what the Hub reads, what people read, and nothing of a stranger's that is markup."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st
from pages import EVIL, QUOTED, write_folder

from seclcompress.cli import app
from seclcompress.networks import NetworkSpec
from seclcompress.report.card import card
from seclcompress.report.card.markdown import block, code, plain, table, yaml
from seclcompress.report.page import Facts
from seclcompress.workflows import report

markdown_it = pytest.importorskip("markdown_it")  # rich brings it
STATE = "It learnt from a teacher."
#: Names that are links, code, cells, lines or the end of a head.
ODD = [EVIL, QUOTED, "[x](http://evil.example)", "![x](http://evil.example)", "`a` | **b**", "\\"]
ODD += ["x\n---\nlicense: mit", "```\n# Title", "<!-- x", "http-equiv", "&lt;", "$x$", "\x1b[31m"]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    folder = write_folder(tmp_path_factory.mktemp("card") / "small", classes=list("0123456789"))
    (made,) = report([folder], folder.parent / "page.html").facts
    return made


def with_config(facts: Facts, **changes: Any) -> Facts:
    return replace(facts, config=facts.config.model_copy(update=changes))


def head_and_body(text: str) -> tuple[dict[str, Any], str]:
    _, head, body = text.split("---\n", 2)
    return pytest.importorskip("yaml").safe_load(head), body


def tokens(body: str) -> list[Any]:
    parsed = markdown_it.MarkdownIt("commonmark").enable("table").parse(body)
    return [one for token in parsed for one in (token, *(token.children or ()))]


def test_the_head_is_what_the_hub_reads(facts: Facts) -> None:
    cards = pytest.importorskip("huggingface_hub").ModelCard
    data = cards(card(facts, STATE)).data
    assert data.library_name == "seclcompress"
    assert data.pipeline_tag == "image-classification"
    assert data.tags == ["seclcompress", "pytorch", "model-compression", "acdc"]
    assert data.license is None
    assert data.datasets is None  # scikit-learn's digits are not on the Hub
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 90.25)
    assert (result.dataset_type, result.dataset_split) == ("digits", "test")
    assert result.task_type == "image-classification"
    trained = {**facts.config.training, "data": "cifar10"}
    data = cards(card(with_config(facts, training=trained), STATE)).data
    assert data.datasets == ["uoft-cs/cifar10"]
    assert data.eval_results[0].dataset_type == "uoft-cs/cifar10"


def test_what_was_not_measured_is_not_claimed(facts: Facts) -> None:
    bare = with_config(facts, metrics={"teacher_accuracy": 92.75}, training={})
    head, body = head_and_body(card(bare, STATE))
    assert not head.keys() & {"model-index", "metrics", "datasets", "license"}
    assert "## Accuracy\n\nNot measured." in body
    assert "Nothing was measured: it is not known to be good for anything yet." in body
    assert "92.75" not in body


def test_people_read_the_figures(facts: Facts) -> None:
    _, body = head_and_body(card(facts, STATE))
    columns = facts.count.columns
    for wanted in (
        "# wrn10_1, 7.4 times smaller",
        f"| parameters | {facts.before.parameters:,} | {columns['separable'].parameters:,} | "
        f"{facts.after.parameters:,} |",
        f"| Mult-Adds for an input of 3x16x16 | {facts.before.mult_adds:,} |",
        "90.25 % of the test images of `digits` are named right (top-1). Its teacher names 92.75 %",
        "7 of its 9 convolutions were rewritten (`acdc`: depthwise + a stack of ACDC layers",
        "10, in this order: `0`, `1`, `2`",
        'network = seclcompress.load("hf://OWNER/NAME", download=True)',
        STATE,
    ):
        assert wanted in body
    plain_one = replace(facts, converted=False)
    _, body = head_and_body(card(plain_one, STATE))
    assert (
        f"|  | this network |\n| --- | ---: |\n| parameters | {facts.before.parameters:,} |" in body
    )
    assert "Plain separable" not in body


def test_it_names_no_place_and_no_time(facts: Facts) -> None:
    training = {**facts.config.training, "data": "imagefolder:/home/ann/faces", "seconds": 12.5}
    mine = with_config(
        facts, training=training, metrics={**facts.config.metrics, "training_seconds": 98765.0}
    )
    text = card(mine, STATE)
    assert "ann" not in text.replace("channels", "")
    assert str(Path(facts.folder).parent) not in text
    assert "98765" not in text
    assert "98,765" not in text
    assert "--data imagefolder:faces" in text
    assert (
        head_and_body(text)[0]["model-index"][0]["results"][0]["dataset"]["name"] == "imagefolder"
    )
    assert card(replace(mine, folder="elsewhere"), STATE) == text


def test_its_commands_are_commands(facts: Facts) -> None:
    _, body = head_and_body(card(facts, STATE, fitted=True))
    lines = [line for line in body.splitlines() if line.startswith("seclcompress ")]
    assert len(lines) == 2
    assert "--start original" in lines[0]
    (taken,) = re.findall(
        "^seclcompress .*--from-secl.*$", card(facts, STATE, checkpoint="a b.t7"), re.MULTILINE
    )
    assert shlex.split(taken)[1:3] == ["convert", "wrn10_1"]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for line in [*lines, taken]:
        name, *rest = shlex.split(line)[1:]
        commands[name].make_context(name, rest, resilient_parsing=False)


def test_a_network_of_a_persons_own_code(facts: Facts) -> None:
    spec = NetworkSpec(source="factory", name="mine:make(width=2)", num_classes=None)
    untrained = with_config(facts, network=spec, training={}, metrics={})
    head, body = head_and_body(card(untrained, STATE))
    assert "pipeline_tag" not in head  # what it does only that code knows
    assert "load(\"FOLDER\", factory_name='mine:make(width=2)')" in body
    assert "that will run" in body


@pytest.mark.parametrize("odd", ODD)
def test_a_strangers_names_are_no_markup(facts: Facts, odd: str) -> None:
    spec = facts.config.network.model_copy(update={"name": odd})
    training = {**facts.config.training, "data": odd, "from_folder": odd, "from_weights": odd}
    strange = with_config(
        facts, network=spec, classes=[odd, "b"], training=training, versions={odd: odd}
    )
    head, body = head_and_body(card(strange, STATE))
    wanted, mine = head_and_body(card(facts, STATE))
    assert head.keys() <= wanted.keys()
    assert "license" not in head
    found = tokens(body)
    assert not {"link_open", "image", "html_inline", "html_block"} & {one.type for one in found}
    titles = [one.content for one in tokens(mine) if one.type == "inline" and one.level == 1]
    kinds = [one.type for one in found if one.type.startswith(("heading", "table", "hr"))]
    assert kinds == [
        one.type for one in tokens(mine) if one.type.startswith(("heading", "table", "hr"))
    ]
    assert titles
    assert "\x1b" not in body


def test_many_classes_stand_in_the_configuration(facts: Facts) -> None:
    text = card(with_config(facts, classes=[f"class {n}" for n in range(1000)]), STATE)
    assert "1,000, in this order: `class 0`" in text
    assert "`class 99` and 900 more, which stand in `config.json`." in text


_VALUES = st.recursive(
    st.text(st.characters(blacklist_categories=("Cs",)))
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans(),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.from_regex("[a-z][a-z_-]{2,8}", fullmatch=True), inner, min_size=1)
    ),
    max_leaves=8,
)


def shown(value: Any) -> Any:
    """What a value is after control characters were escaped."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    if isinstance(value, list):
        return [shown(item) for item in value]
    return {k: shown(v) for k, v in value.items()} if isinstance(value, dict) else value


@given(st.dictionaries(st.sampled_from(["one", "two", "three"]), _VALUES, min_size=1))
@example({"one": dict.fromkeys(["off", "on", "yes", "no", "true", "false", "null"], "")})
def test_yaml_reads_back_as_it_was(value: dict[str, Any]) -> None:
    assert pytest.importorskip("yaml").safe_load(yaml(value)) == shown(value)


@given(st.text(st.characters(blacklist_categories=("Cs",)), min_size=1))
@example(":_0_:")
@example("a __b__ _c_")
def test_text_and_code_show_what_they_were_given(text: str) -> None:
    parsed = markdown_it.MarkdownIt("commonmark").parseInline("x" + plain("x" + text + "x"))[0]
    assert {one.type for one in parsed.children} <= {"text", "text_special"}
    spans = [one for one in tokens(f"x {code(text)} x") if one.type == "code_inline"]
    assert len(spans) <= 1
    if text.isprintable() and "|" not in text and text.strip() == text:
        assert [one.content for one in spans] == [text]


@given(st.lists(st.text("`~ab\n #", max_size=12), min_size=1, max_size=4))
def test_nothing_ends_a_block(lines: list[str]) -> None:
    found = [one for one in tokens(block(lines, "sh") + "\n\n# After") if one.type == "fence"]
    assert [one.content for one in found] == ["\n".join(lines) + "\n"]


def test_a_table_keeps_its_columns() -> None:
    text = table(["", "a"], [[code("x|y"), "1"], [plain("p|q"), "2"]])
    assert sum(one.type == "td_open" for one in tokens(text)) == 4
