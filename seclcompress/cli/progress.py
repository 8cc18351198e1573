"""Progress of long work on stderr: a spinner or a bar on a terminal, only words elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from seclcompress.observer import Observer


@contextlib.contextmanager
def counting(console: Console, words: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told how many of how many are done."""
    columns = (TextColumn(words), BarColumn(bar_width=None), MofNCompleteColumn(), TimeLeft())
    off = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=off) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


class ConsoleObserver(Observer):
    """Draws what a workflow tells it.

    Args:
        console: On stderr.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._decoding = console.status("")

    def message(self, words: str) -> None:
        """Prints it."""
        self._console.print(words, markup=False)

    @contextlib.contextmanager
    def working(self, words: str) -> Iterator[Callable[[str], object]]:
        """A spinner beside the words."""
        with self._console.status(words) as status:
            yield status.update

    @contextlib.contextmanager
    def counting(self, words: str, total: int) -> Iterator[Callable[[int, int], object]]:
        """A bar."""
        with counting(self._console, words, total) as tell:
            yield tell

    def decoding(self, data: str, done: int, total: int) -> None:
        """A spinner until all are done."""
        self._decoding.update(f"Decoding {data}: {done:,} of {total:,} images")
        if done < total:
            self._decoding.start()
        else:
            self._decoding.stop()
