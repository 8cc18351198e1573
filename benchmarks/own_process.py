"""Measurements in processes of their own: the place of a process's memory affects its times."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterable
from typing import Any


def in_process(script: str, *arguments: str) -> Any:
    """Runs a script in a process of its own and returns the JSON that it prints."""
    command = [sys.executable, script, *arguments]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def median_and_range(ratios: Iterable[float]) -> str:
    """The median of one number per process, with the least and the greatest in brackets."""
    ordered = sorted(ratios)
    return f"{statistics.median(ordered):.2f} ({ordered[0]:.2f} to {ordered[-1]:.2f})"
