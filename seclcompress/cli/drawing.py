"""An observer that shows progress in the terminal, on stderr (results go to stdout)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape

from seclcompress.cli.console import err_console
from seclcompress.observer import Observer


class Drawing(Observer):
    """Prints messages, and shows the current work while it lasts.

    Args:
        console: The console to print on, for stderr.
    """

    def __init__(self, console: Console = err_console) -> None:
        self._console = console

    def message(self, words: str) -> None:
        """Prints a line."""
        self._console.print(words, markup=False)

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        """Shows a line while the work lasts."""
        with self._console.status(escape(words)) as status:
            yield lambda now: status.update(escape(now))

    @contextlib.contextmanager
    def counting(self, words: str, total: int) -> Iterator[Callable[[int, int], object]]:
        """Shows a progress bar while the work lasts."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeft

        columns = (
            TextColumn(words, markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeLeft(),
        )
        off = not self._console.is_terminal
        with Progress(*columns, console=self._console, transient=True, disable=off) as bar:
            task = bar.add_task("", total=total)
            yield lambda done, whole: bar.update(task, completed=done, total=whole)
