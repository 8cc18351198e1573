"""Where words go: results to stdout, everything else to stderr, so that output can be piped."""

from __future__ import annotations

from rich.console import Console

err_console = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
