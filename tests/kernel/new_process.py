"""Code in a Python process of its own."""

from __future__ import annotations

import subprocess
import sys


def words_of_a_new_process(code: str) -> list[str]:
    """The words that code prints in a Python process of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
