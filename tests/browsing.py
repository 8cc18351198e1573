"""Headless Chromium for the tests of pages, and whether what it shows can be read.

Chromium and playwright are not everywhere; where one is missing, the tests are skipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
#: The smallest ratio of luminance between a text and what is behind it, by WCAG 2.1, 1.4.3.
CONTRAST = 4.5
#: For each text its words, the colours of it and of what is behind it. A colour that the page mixes has
#: another form and is left out.
TEXTS = """() => {
  const solid = c => /^rgb\\(/.test(c);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (!/^rgba\\(.*, 0\\)$/.test(c)) return c;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("body *")]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
    .filter(e => e.tagName !== "title" && e.getClientRects().length)
    .map(e => [e.textContent.trim().slice(0, 40),
               getComputedStyle(e)[e.namespaceURI.endsWith("svg") ? "fill" : "color"], behind(e)])
    .filter(([, front, back]) => solid(front) && solid(back));
}"""


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    # Containers run as root and have no namespaces to spare for a sandbox; the pages are our own.
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield opened
        opened.close()


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.1 of `rgb(r, g, b)`."""
    values = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return sum(share * v for share, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, two: str) -> float:
    low, high = sorted(map(luminance, (one, two)))
    return (high + 0.05) / (low + 0.05)
