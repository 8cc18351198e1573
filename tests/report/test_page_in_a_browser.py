"""The page in headless Chromium: nothing complains, nothing is loaded, and it can be read.

Chromium and playwright are not everywhere; where one is missing, the tests are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import CONTRAST, TEXTS, chromium, contrast, luminance
from pages import write_folder

from seclcompress.settings.training import TrainingSettings
from seclcompress.workflows import report

#: Height in pixels of a line of text in a picture, below which it cannot be read.
_SMALLEST = 10
_HEIGHTS = """() => [...document.querySelectorAll("svg text")].filter(t => t.textContent.trim())
  .map(t => t.getBBox().height * Math.hypot(t.getScreenCTM().a, t.getScreenCTM().b))"""
_OUTSIDE = """() => [...document.querySelectorAll("body *")]
  .filter(e => !e.parentElement.closest(".scroll, svg, thead"))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("browser")
    long = ["a long name of a class of things " * 2, *map(str, range(9))]
    folders = [
        write_folder(place / "small"),
        write_folder(place / "other", taught=False, classes=long),
    ]
    settings = TrainingSettings(classes_by_order=True)
    output = place / "page.html"
    report(folders, output, data="digits", settings=settings, bench=True)
    return output


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_can_be_read(browser: Any, page_file: Path, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert complaints == []
    assert requests == [page_file.as_uri()]

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(_OUTSIDE) == []
    heights = page.evaluate(_HEIGHTS)
    assert len(heights) > 50
    assert min(heights) >= _SMALLEST
    texts = page.evaluate(TEXTS)
    assert len(texts) > 200
    for words, front, back in texts:
        assert contrast(front, back) >= CONTRAST, f"{words!r}: {front} on {back}"
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.1 or (
        scheme == "light"
    )
    context.close()


@pytest.mark.slow
def test_the_reason_is_shown_on_hover(browser: Any, page_file: Path) -> None:
    """The topmost element over a layer's point holds the title with the reason."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(page_file.as_uri())
    layer = page.locator("svg.plot .hover").nth(4)
    layer.scroll_into_view_if_needed()
    box = layer.bounding_box()
    place = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
    found = page.evaluate(
        "([x, y]) => document.elementFromPoint(x, y).closest('.hover')"
        ".querySelector('title').textContent",
        place,
    )
    assert found == layer.locator("title").text_content()
    context.close()
