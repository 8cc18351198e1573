"""The consoles for stderr, and the log. Only results go to stdout, so output can be piped."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from enum import Enum
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


#: For progress and messages; `--quiet` makes it silent.
err_console = _Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
#: For warnings and errors, which are always shown.
alarm_console = _Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


_LOADING = "Loading torch …"


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Shows a line on a terminal while the block imports torch, which takes seconds.

    It is a plain line without a spinner: Ctrl-C during the import ends the process at once,
    and a spinner would leave the terminal without its cursor.
    """
    shown = err_console.is_terminal and not err_console.quiet
    file = err_console.file
    if shown:
        file.write(f"{_LOADING}\r")
        file.flush()
    try:
        yield
    finally:
        if shown:
            file.write(" " * len(_LOADING) + "\r")
            file.flush()


class LogLevel(str, Enum):
    """`--log-level`."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


def log_to_stderr(level: LogLevel | None) -> None:
    """Writes this package's log to standard error, from a level on; None for no log."""
    logger = logging.getLogger("seclcompress")
    for handler in [one for one in logger.handlers if isinstance(one, _LogHandler)]:
        logger.removeHandler(handler)
    if level is not None:
        logger.addHandler(_LogHandler())
        logger.setLevel(level.value.upper())


class _LogHandler(logging.StreamHandler[IO[str]]):
    """Lines with time and level, on a terminal that may be closed."""

    def __init__(self) -> None:
        super().__init__(LenientFile(sys.stderr))  # type: ignore[arg-type]
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
