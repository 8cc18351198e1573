"""An observer that shows progress in the terminal, on stderr (results go to stdout)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape

from seclcompress.cli.console import err_console
from seclcompress.observer import Logging


class Drawing(Logging):
    """Prints messages, and shows the current work while it lasts; both are logged as well.

    Args:
        console: The console to print on, for stderr.
    """

    def __init__(self, console: Console = err_console) -> None:
        self._console = console

    def message(self, words: str) -> None:
        """Prints a line."""
        super().message(words)
        self._console.print(words, markup=False)

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        """Shows a line while the work lasts."""
        with super().working(words) as log, self._console.status(escape(words)) as status:

            def show(now: str) -> None:
                log(now)
                status.update(escape(now))

            yield show

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
        # Standard output is left alone: results that are printed meanwhile must not become messages.
        bar = Progress(
            *columns, console=self._console, transient=True, disable=off, redirect_stdout=False
        )
        with super().counting(words, total) as log, bar:
            task = bar.add_task("", total=total)

            def show(done: int, whole: int) -> None:
                log(done, whole)
                bar.update(task, completed=done, total=whole)

            yield show
