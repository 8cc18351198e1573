"""The console for stderr. Results go to stdout and everything else to stderr, so output can be piped."""

from __future__ import annotations

from typing import IO, Any

from rich.console import Console

from seclcompress.cli.streams import LenientFile


class _Console(Console):
    """A console whose messages may get lost, as on a terminal that was closed."""

    @property
    def file(self) -> IO[str]:
        """The stream that messages go to."""
        return LenientFile(super().file)  # type: ignore[return-value]

    @file.setter
    def file(self, new: Any) -> None:
        Console.file.fset(self, new)  # type: ignore[attr-defined]


err_console = _Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
