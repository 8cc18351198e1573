"""The data flows one way: held by import-linter, and the picture in the documents is the same."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import grimp
import networkx  # torch brings it
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:  # import-linter brings it on 3.10
    import tomli as tomllib

ROOT = Path(__file__).parent.parent


def layers() -> list[list[str]]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [
        contract
        for contract in config["tool"]["importlinter"]["contracts"]
        if contract["containers"] == ["seclcompress"]
    ]
    return [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]


def test_imports_go_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlinter.cli import lint_imports

    # It configures logging, which would switch off every logger that is there, for later tests as well.
    monkeypatch.setattr("logging.config.dictConfig", lambda _: None)
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == 0


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports for annotations alone do not count: they never run."""
    imports = grimp.build_graph("seclcompress", exclude_type_checking_imports=True, cache_dir=None)
    graph = networkx.DiGraph()
    for module in imports.modules:
        graph.add_edges_from(
            (module, imported) for imported in imports.find_modules_directly_imported_by(module)
        )
    assert graph.number_of_edges() > 300
    # For the compiled module beside it, which grimp, looking for Python files, takes for its package.
    graph.remove_edge("seclcompress.kernel.by_native", "seclcompress.kernel")
    assert [
        circle for circle in networkx.strongly_connected_components(graph) if len(circle) > 1
    ] == []


def test_the_picture_is_true() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("<!-- layers")[2].partition("## Decisions")[0]
    shown = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    wanted = [sorted(layer) for layer in layers()]
    found, rest = [], shown
    for layer in wanted:
        found.append(sorted(rest[: len(layer)]))
        rest = rest[len(layer) :]
    assert found == wanted
    assert rest == []


def test_every_module_has_a_place() -> None:
    placed = {name for layer in layers() for name in layer}
    there = {
        path.stem
        for path in (ROOT / "seclcompress").iterdir()
        if path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert placed == there


def test_files_stay_small() -> None:
    for path in (ROOT / "seclcompress").rglob("*.py"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 350, f"{path.name} has {lines} lines"


def test_nothing_below_the_command_line_prints() -> None:
    for path in (ROOT / "seclcompress").rglob("*.py"):
        if "cli" not in path.parts:
            assert not re.search(r"(?<![\w.])print\(", path.read_text(encoding="utf-8")), path.name
