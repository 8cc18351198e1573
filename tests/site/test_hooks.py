"""Links that are right in the repository become right on the site."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from building import ROOT

mkdocs = pytest.importorskip("mkdocs")
#: The page of each text that stands outside docs/, as in mkdocs.yml.
ELSEWHERE = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md"}
URL = "https://example.org/our"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "theme" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hooks"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("source", "written", "wanted"),
    [
        ("README.md", "[a](docs/export.md)", "[a](export.md)"),
        ("README.md", "[a](docs/data.md#size)", "[a](data.md#size)"),
        ("README.md", "[a](CONTRIBUTING.md)", "[a](contributing.md)"),
        ("README.md", "![a](docs/frontier.png)", "![a](frontier.png)"),
        ("CONTRIBUTING.md", "[a](docs/architecture.md)", "[a](architecture.md)"),
        ("docs/tuning.md", "[a](command_line.md#tuning-tune)", "[a](command_line.md#tuning-tune)"),
        ("docs/tuning.md", "[a](../README.md)", "[a](index.md)"),
        ("docs/how_to/ship.md", "[a](../export.md)", "[a](../export.md)"),
        ("docs/how_to/ship.md", "[a](../../README.md#ship-it)", "[a](../index.md#ship-it)"),
        ("docs/tuning.md", "[a](../LICENSE)", f"[a]({URL}/blob/main/LICENSE)"),
        ("docs/tuning.md", "[a](#size) [b](https://c.d/e)", "[a](#size) [b](https://c.d/e)"),
        ("docs/tuning.md", "`[a](../nowhere)` [b](data.md)", "`[a](../nowhere)` [b](data.md)"),
        ("docs/tuning.md", "```python\nx[1](y)\n```\n", "```python\nx[1](y)\n```\n"),
        ("docs/tuning.md", "[`w`](../LICENSE) [x](#a)", f"[`w`]({URL}/blob/main/LICENSE) [x](#a)"),
    ],
)  # fmt: skip
def test_a_link(hooks: ModuleType, source: str, written: str, wanted: str) -> None:
    assert hooks.rewritten(written, source, ELSEWHERE, ROOT, URL) == wanted


def test_without_an_address_the_path_is_said(hooks: ModuleType) -> None:
    found = hooks.rewritten("the [licence](../LICENSE)", "docs/data.md", ELSEWHERE, ROOT, None)
    assert found == "the licence (`LICENSE`)"


def test_a_link_to_nothing_ends_the_build(hooks: ModuleType) -> None:
    from mkdocs.exceptions import PluginError

    with pytest.raises(PluginError, match=r"docs/data.md: \[a\]\(../no.md\) leads to no.md"):
        hooks.rewritten("[a](../no.md)", "docs/data.md", ELSEWHERE, ROOT, URL)


@pytest.mark.parametrize(
    ("urls", "wanted"), [("", None), ('urls = { Repository = "https://a.b/c/" }', "https://a.b/c")]
)
def test_the_address_is_that_of_the_project(
    hooks: ModuleType, tmp_path: Path, urls: str, wanted: str | None
) -> None:
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "a"\n{urls}\n', encoding="utf-8")
    assert hooks.repository_of(tmp_path) == wanted
