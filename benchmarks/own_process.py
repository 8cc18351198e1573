"""Measurements in processes of their own, because where memory happens to lie decides with them."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterable
from typing import Any


def in_process(script: str, *arguments: str) -> Any:
    """What a script prints, as JSON, in a process of its own."""
    command = [sys.executable, script, *arguments]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def median_and_range(ratios: Iterable[float]) -> str:
    """The median of one number for each process, and in brackets the least and the most."""
    ordered = sorted(ratios)
    return f"{statistics.median(ordered):.2f} ({ordered[0]:.2f} to {ordered[-1]:.2f})"
