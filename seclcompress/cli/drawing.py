"""An observer that shows progress in the terminal, on stderr (results go to stdout)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console

from seclcompress.cli.console import err_console
from seclcompress.observer import Logging

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


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
        """Shows a line while the work lasts, with the time that it has taken."""
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
        )
        with super().working(words) as log, self._display(*columns) as line:
            task = line.add_task(words, total=None)

            def show(now: str) -> None:
                log(now)
                line.update(task, description=now)

            yield show

    @contextlib.contextmanager
    def counting(self, words: str, total: int) -> Iterator[Callable[[int, int], object]]:
        """Shows a progress bar while the work lasts."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeft

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeLeft(),
        )
        with super().counting(words, total) as log, self._display(*columns) as bar:
            task = bar.add_task(words, total=total)

            def show(done: int, whole: int) -> None:
                log(done, whole)
                bar.update(task, completed=done, total=whole)

            yield show

    def _display(self, *columns: ProgressColumn) -> Progress:
        """A display that is removed at the end; none where nobody looks at a terminal."""
        from rich.progress import Progress

        # Standard output is left alone: results that are printed meanwhile must not become messages.
        return Progress(
            *columns,
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
            redirect_stdout=False,
        )
