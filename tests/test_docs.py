"""What the documents show is run, and what they promise about the code is checked."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from conftest import Invoke

ROOT = Path(__file__).parent.parent
#: Pages that a person goes through from top to bottom: all blocks of one run in one folder.
HOW_TO = sorted((ROOT / "docs" / "how_to").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"(?:<!-- (slow|needs \w+) -->\n)?```(\w+)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    document: Path
    number: int
    language: str
    code: str
    mark: str

    @property
    def slow(self) -> bool:
        return self.mark == "slow"

    @property
    def missing(self) -> bool:
        """Whether the block needs a package that is not installed."""
        word, _, package = self.mark.partition(" ")
        return word == "needs" and find_spec(package) is None

    def __str__(self) -> str:
        return f"{self.document.name}-{self.number}"


def blocks_of(document: Path) -> list[Block]:
    """A document's blocks. README's slow ones train for an epoch here; `make demo` trains for all."""
    found = []
    for number, match in enumerate(_BLOCK.finditer(document.read_text(encoding="utf-8"))):
        mark, language, code = match[1] or "", match[2], match[3]
        if mark == "slow" and document.name == "README.md":
            code = re.sub(r"(epochs[ =])\d+", r"\g<1>1", code)
        found.append(Block(document, number, language, code, mark))
    return found


def blocks(language: str) -> list[object]:
    found = []
    for document in DOCUMENTS:
        for block in blocks_of(document):
            if block.language == language:
                marks = [pytest.mark.slow] if block.slow else []
                found.append(pytest.param(block, id=str(block), marks=marks))
    assert found
    return found


def pages() -> list[object]:
    found = []
    for page in HOW_TO:
        slow = any(block.slow for block in blocks_of(page))
        found.append(pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if slow else []))
    return found


@pytest.mark.parametrize("page", pages())
def test_how_to_pages_run_from_top_to_bottom(
    invoke: Invoke, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one folder, with what stands in examples/ at hand."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    found = blocks_of(page)
    assert {block.language for block in found} <= {"console", "python"}
    assert len(found) >= 2
    for block in found:
        if block.missing:
            continue
        if block.language == "console":
            run_commands(invoke, block)
        else:
            exec(compile(block.code, str(block), "exec"), {"__name__": str(block)})


@pytest.mark.parametrize("block", blocks("console"))
def test_commands_print_what_is_shown(invoke: Invoke, block: Block) -> None:
    run_commands(invoke, block)


def run_commands(invoke: Invoke, block: Block) -> None:
    """Every shown line must appear; spacing and line breaks depend on the terminal."""
    commands = re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]
    for command in commands:
        line, *shown = command.splitlines()
        program, *arguments = shlex.split(line)
        assert program == "seclcompress"
        result = invoke(*arguments)
        printed = " ".join((result.stdout + result.stderr).split())
        for expected in shown:
            assert " ".join(expected.split()) in printed


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks_run(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if "class Test" in block.code:
        return  # run beside the family that it tests
    names: dict[str, object] = {"__name__": str(block)}
    exec(compile(block.code, str(block), "exec"), names)  # our own documents
    if "SUBSTITUTION" in names:
        check_example_substitution(block, tmp_path)
    if "SOURCE" in names:
        check_example_source(block.code, tmp_path, monkeypatch)


def check_example_substitution(block: Block, folder: Path) -> None:
    """The example of CONTRIBUTING, put where it says, keeps all promises that its test inherits."""
    tests = [
        match[3]
        for match in _BLOCK.finditer(block.document.read_text(encoding="utf-8"))
        if "class Test" in match[3]
    ]
    (folder / "beside").mkdir()
    (folder / "beside" / "symmetric_example.py").write_text(block.code, encoding="utf-8")
    (folder / "test_symmetric_example.py").write_text(*tests, encoding="utf-8")
    # A file beside the families' own is found as they are.
    (folder / "placed_beside.py").write_text(
        "from seclcompress import substitutions\n"
        f"substitutions.__path__.append({str(folder / 'beside')!r})\n",
        encoding="utf-8",
    )
    paths = [folder, ROOT, ROOT / "tests", ROOT / "tests" / "substitutions"]
    result = subprocess.run(
        # tests/conftest.py, as a plugin, runs the promises over the cases.
        [
            *(sys.executable, "-m", "pytest", "-q", "--rootdir", folder, folder),
            *("-p", "placed_beside", "-p", "conftest", "-p", "no:cacheprovider"),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed is not None
    assert int(passed[1]) > 60


def check_example_source(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of CONTRIBUTING, put where it says, keeps the promises of every source."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "networks"))
    from source_promises import PROMISES, placed_beside

    from seclcompress import networks

    file = folder / "beside" / "perceptrons_example.py"
    file.parent.mkdir()
    file.write_text(code, encoding="utf-8")
    with placed_beside(file):
        source = networks.sources.get("mlp")
        assert networks.named_spec("mlp32").source == "mlp"
        for number, promise in enumerate(PROMISES):
            promise(source, source.names()[0], folder / str(number))


def test_doctest_of_the_package() -> None:
    import doctest

    import seclcompress

    result = doctest.testmod(seclcompress, raise_on_error=True)
    assert result.attempted > 3


def commands() -> dict[str, typer.core.TyperCommand]:
    from seclcompress.cli import app

    return typer.main.get_command(app).commands  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("command", list(commands()))
def test_every_option_is_in_the_command_lines_document(command: str) -> None:
    text = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    assert f"`{command}" in text
    for parameter in commands()[command].params:
        for option in parameter.opts:
            if option.startswith("--") and option != "--help":
                assert f"`{option}" in text or f" {option}" in text, f"{command} {option}"


def test_the_document_names_no_option_that_is_not_there() -> None:
    text = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    parameters = [p for c in commands().values() for p in c.params]
    known = {o for p in parameters for o in (*p.opts, *p.secondary_opts)} | {
        "--debug",
        "--help",
        "--install-completion",
        "--log-level",
        "--quiet",
        "--show-completion",
        "--version",
        "--nproc-per-node",  # torchrun's
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= known


def test_every_promise_names_a_test_that_is_there() -> None:
    text = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+\.py)::([\w:]+)`", text)
    assert len(named) > 40
    for file, test in named:
        [path] = (ROOT / "tests").rglob(file)
        scope = ast.parse(path.read_text(encoding="utf-8")).body
        for name in test.split("::"):
            found = [node for node in scope if getattr(node, "name", None) == name]
            assert found, f"{file}::{test}"
            scope = getattr(found[0], "body", [])
        slow = any("slow" in ast.unparse(mark) for mark in found[0].decorator_list)
        assert slow == (f"`{file}::{test}` (slow)" in text), f"{file}::{test}"
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all("::" in row for row in rows if row != "| promise | held by |")


def test_no_document_has_a_gap_to_be_filled() -> None:
    for document in [*DOCUMENTS, *HOW_TO]:
        assert not re.search(r"\{[A-Z_]+\}|\bTODO\b", document.read_text(encoding="utf-8")), (
            document
        )


def test_links_between_documents() -> None:
    for document in [*DOCUMENTS, *HOW_TO, *(ROOT / "docs" / "api").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def anchors_of(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_reach_headings() -> None:
    for document in [*DOCUMENTS, *HOW_TO]:
        for target, anchor in re.findall(
            r"\]\(([^)#:]*)#([^)]+)\)", document.read_text(encoding="utf-8")
        ):
            other = document.parent / target if target else document
            if other.suffix == ".md":
                assert anchor in anchors_of(other), f"{document.name}: {target}#{anchor}"


def test_nothing_names_this_machine_or_a_registry() -> None:
    suffixes = {".py", ".md", ".toml", ".yaml", ".cff", ""}
    for path in [*ROOT.glob("*"), *ROOT.glob("[!.]*/**/*"), *ROOT.glob(".ci/*")]:
        if path.is_file() and path.suffix in suffixes and ".egg-info" not in str(path):
            text = path.read_text(encoding="utf-8", errors="replace")
            assert str(Path.home()) + "/" not in text, path
            assert "file" + ":///" not in text, path
