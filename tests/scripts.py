"""Runs the scripts of benchmarks/ and experiments/ as a person does, in a folder of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run_script(path: str, where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a script of the repository with one thread, such as `benchmarks/kernel.py`."""
    return subprocess.run(
        [sys.executable, str(ROOT / path), *arguments],
        cwd=where,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
    )
