"""The site in headless Chromium, served as it would be: it can be read, and asks nobody else."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import CONTRAST, TEXTS, chromium, contrast, luminance
from building import built_site

#: One page of each kind: prose, wide tables, pictures, code, what mkdocstrings makes.
_PAGES = (
    "index.html",
    "command_line.html",
    "families.html",
    "linear_approximation.html",
    "performance.html",
    "how_to/ship.html",
    "api/workflows.html",
    "api/settings.html",
)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=str(built_site()))

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    built_site()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_can_be_read(browser: Any, address: str, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    for name in _PAGES:
        page.goto(address + name)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        texts = page.evaluate(TEXTS)
        assert len(texts) > 50
        for words, front, back in texts:
            assert contrast(front, back) >= CONTRAST, f"{name}: {words!r}: {front} on {back}"
        ground = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert ground < 0.1 if scheme == "dark" else ground > 0.9
    assert complaints == []
    assert len(requests) > len(_PAGES)
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    context.close()


@pytest.mark.slow
def test_the_search_finds_an_option_and_a_function(browser: Any, address: str) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address + "index.html")
    for words, wanted in (("least-epochs", "command_line.html"), ("rewrite_network", "api/")):
        page.fill("input[name=query]", words)
        found = page.locator(f".md-search-result__link[href*='{wanted}']").first
        found.wait_for(state="attached", timeout=20_000)
    context.close()
