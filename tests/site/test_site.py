"""The documentation's site is built strictly, is complete, and needs nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from building import ROOT, built_site

import seclcompress
from seclcompress import workflows


class Page(HTMLParser):
    """What a page is found by, what it loads, and the text of its paragraphs."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.loads: list[str] = []
        self.paragraphs: list[str] = []
        self._in_paragraph = False
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.add(str(found["id"]))
        wanted = {"link": "href", "script": "src", "img": "src", "iframe": "src"}
        if tag in wanted and found.get(wanted[tag]):
            self.loads.append(str(found[wanted[tag]]))
        if tag == "p":
            self._in_paragraph = True
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_paragraph = self._in_paragraph and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._in_paragraph:
            self.paragraphs[-1] += data


@pytest.fixture(scope="module")
def pages() -> dict[str, Page]:
    folder = built_site()
    return {str(file.relative_to(folder)): Page(file) for file in folder.rglob("*.html")}


@pytest.mark.slow
def test_every_public_name_is_on_a_page(pages: dict[str, Page]) -> None:
    shown = set.union(*(page.ids for name, page in pages.items() if name.startswith("api")))
    public = {f"seclcompress.{name}" for name in seclcompress.__all__ if name != "workflows"}
    public |= {f"seclcompress.workflows.{name}" for name in workflows.__all__}
    assert len(public) > 35
    assert public - shown == set()
    # Not the names alone: fields with their descriptions, parameters, what is raised.
    assert "seclcompress.TrainingSettings.batch_size" in shown
    text = (built_site() / "api" / "settings.html").read_text(encoding="utf-8")
    assert "Passes over the training images." in text


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(pages: dict[str, Page]) -> None:
    assert len(pages) > 30
    for name, page in pages.items():
        assert not [where for where in page.loads if re.match(r"(https?:)?//", where)], name
    for style in built_site().rglob("*.css"):
        assert not re.search(r"(url\(|@import )['\"]?(https?:)?//", style.read_text("utf-8")), style


@pytest.mark.slow
def test_every_document_is_a_page_and_the_readme_is_the_first(pages: dict[str, Page]) -> None:
    for document in (ROOT / "docs").rglob("*.md"):
        page = document.relative_to(ROOT / "docs").with_suffix(".html")
        assert str(page) in pages, document
    assert not (ROOT / "docs" / "index.md").exists()  # nothing is written twice
    assert {"convert-and-distil", "ship-it", "in-python"} <= pages["index.html"].ids
    assert {"add-a-substitution", "add-a-network"} <= pages["contributing.html"].ids


@pytest.mark.slow
def test_lists_and_tables_are_not_swallowed_by_paragraphs(pages: dict[str, Page]) -> None:
    """Python-Markdown wants an empty line before them, where the repository's reader does not."""
    for name, page in pages.items():
        for paragraph in page.paragraphs:
            assert not re.search(r"\n\s*(-|\d+\.|\|) ", paragraph), (name, paragraph[:200])


def test_the_menu_names_every_document() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    named = re.findall(r"[\w/]+\.md", menu)
    for document in (ROOT / "docs").rglob("*.md"):
        assert named.count(document.relative_to(ROOT / "docs").as_posix()) == 1, document
