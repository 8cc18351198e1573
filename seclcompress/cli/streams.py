"""Standard output and error that may fail: a full disk, a closed terminal."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import typer

from seclcompress.errors import SeclcompressError


class OutputError(SeclcompressError):
    """Standard output cannot be written."""


class CheckedOutput(io.TextIOWrapper):
    """Standard output whose failures are errors in words.

    A pipe that the reader has closed stays a BrokenPipeError, because that is no failure.
    """

    def write(self, text: str) -> int:
        """Writes a text.

        Raises:
            OutputError: If the system refuses, as on a full disk.
        """
        try:
            return super().write(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _refused(error) from error

    def flush(self) -> None:
        """Hands what was written to the system.

        Raises:
            OutputError: If the system refuses, as on a full disk.
        """
        try:
            super().flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _refused(error) from error


def _refused(error: OSError) -> OutputError:
    return OutputError(f"The output could not be written: {error.strerror or error}.")


class LenientFile:
    """A stream for messages. If nobody can read them any more, the work goes on without them.

    A closed terminal refuses every character; that must not keep a run from saving its state.

    Args:
        stream: The stream to write to.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text; returns its length even if nobody can read it."""
        try:
            return int(self._stream.write(text))
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Hands what was written to the system, if it takes it."""
        with contextlib.suppress(OSError):
            self._stream.flush()


_results: TextIO | None = None


@contextlib.contextmanager
def results_alone() -> Iterator[None]:
    """While the block runs, standard output gets what `write_result` writes, and nothing else.

    Whatever else is printed, as by a factory of the user, goes to standard error. So `--json` and
    `--csv` stay readable for programs.
    """
    global _results
    _results = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _results = None


def results() -> TextIO:
    """Standard output as it was before `results_alone`."""
    return sys.stdout if _results is None else _results


def write_result(text: str, end: str = "\n") -> None:
    """Writes a text to standard output, also where only results may go there."""
    typer.echo(text + end, file=results(), nl=False)


def check_stdout() -> None:
    """Makes failures of standard output errors in words, from now on.

    Characters that a stream's encoding does not have become question marks.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and not isinstance(out, CheckedOutput):
        sys.stdout = CheckedOutput(
            out.buffer,
            encoding=out.encoding,
            errors="replace",
            line_buffering=bool(out.line_buffering),
        )


def drop_stdout() -> None:
    """Throws away what was not written yet, so that Python does not try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
