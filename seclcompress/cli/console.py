"""The console for stderr. Results go to stdout and everything else to stderr, so output can be piped."""

from __future__ import annotations

from rich.console import Console

err_console = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
