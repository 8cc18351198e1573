"""The scripts that print published figures run, on a CPU, as far as a test can wait."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from seclcompress import kernel

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def script(name: str, where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *arguments],
        cwd=where,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
    )


@pytest.mark.skipif(not kernel.available(), reason="built without a compiler")
@pytest.mark.parametrize("what", ["layer", "weight"])
def test_the_kernel_is_timed_in_several_processes(what: str, tmp_path: Path) -> None:
    small = ("--sizes", "64", "88", "--layers", "1", "--seconds", "0.01", "--processes", "2")
    more = ("--weight",) if what == "weight" else ("--positions", "1", "49", "--channels-last")
    done = script("kernel.py", tmp_path, *small, *more)
    assert done.returncode == 0, done.stderr
    head, counted, threads, *lines = done.stdout.splitlines()
    assert "float32" in head
    assert counted.startswith("Medians of 2 processes")
    assert threads == "1 thread"
    assert len(lines) == 4
    assert all(re.search(r"ratio +\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)", line) for line in lines)
