"""Builds the documentation's site as `make docs` does, once for all tests of a process."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@functools.cache
def built_site() -> Path:
    """The folder of the site. The test is skipped where what makes it is not installed."""
    for package in ("mkdocs", "material", "mkdocstrings", "griffe_pydantic"):
        pytest.importorskip(package)
    folder = Path(tempfile.mkdtemp(prefix="seclcompress-site-"))
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "WARNING" not in done.stderr
    return folder
