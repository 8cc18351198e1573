"""The scripts that print published figures run, on a CPU, as far as a test can wait."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scripts import run_script

from seclcompress import kernel


@pytest.mark.slow
@pytest.mark.skipif(not kernel.available(), reason="built without a compiler")
@pytest.mark.parametrize("what", ["layer", "weight"])
def test_the_kernel_is_timed_in_several_processes(what: str, tmp_path: Path) -> None:
    small = ("--sizes", "64", "88", "--layers", "1", "--seconds", "0.01", "--processes", "2")
    more = ("--weight",) if what == "weight" else ("--positions", "1", "49", "--channels-last")
    done = run_script("benchmarks/kernel.py", tmp_path, *small, *more)
    assert done.returncode == 0, done.stderr
    head, counted, threads, *lines = done.stdout.splitlines()
    assert "float32" in head
    assert counted.startswith("Medians of 2 processes")
    assert threads == "1 thread"
    assert len(lines) == 4
    assert all(re.search(r"ratio +\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)", line) for line in lines)


@pytest.mark.slow
def test_fused_networks_are_timed_side_by_side(tmp_path: Path) -> None:
    small = ("wrn10_1", "--depth", "1", "--rounds", "2", "--size", "32")
    done = run_script("benchmarks/fused.py", tmp_path, *small)
    assert done.returncode == 0, done.stderr
    for name in ("original", "dense fused", "chosen fused"):
        assert re.search(
            rf"^{name} +\d+\.\d\d ms .* original ÷ this +\d", done.stdout, re.MULTILINE
        )
