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
#: For each text its words, the colours of it and of what is behind it, both as they are seen: half
#: transparent ones are mixed with what is behind them. Colours in another form than rgb() are left out.
TEXTS = """() => {
  const parts = c => /^rgba?\\([^%]*\\)$/.test(c) ? c.match(/[\\d.]+/g).map(Number) : null;
  const over = (front, back) => front && back && [0, 1, 2].map(
    i => front[i] * (front[3] ?? 1) + back[i] * (1 - (front[3] ?? 1)));
  const behind = e => {
    if (!e) return [255, 255, 255];
    const c = parts(getComputedStyle(e).backgroundColor);
    return c && c[3] === undefined ? c : over(c, behind(e.parentElement));
  };
  const words = c => c && `rgb(${c.map(Math.round).join(", ")})`;
  return [...document.querySelectorAll("body *")]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
    .filter(e => e.tagName !== "title" && e.getClientRects().length)
    .filter(e => e.checkVisibility({opacityProperty: true, visibilityProperty: true}))
    .map(e => {
      const front = getComputedStyle(e)[e.namespaceURI.endsWith("svg") ? "fill" : "color"];
      const back = behind(e);
      return [e.textContent.trim().slice(0, 40), words(over(parts(front), back)), words(back)];
    })
    .filter(([, front, back]) => front && back);
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
