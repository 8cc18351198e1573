"""What compiled code prints on standard output by itself."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def output_to_stderr() -> Iterator[None]:
    """Lets compiled code print to standard error: HiGHS may say on standard output what it repairs.

    A command's standard output is its result, and with `--json` one object. Where a system has no
    standard output or no C library by that name, nothing changes.
    """
    sys.stdout.flush()
    flush = _flush()
    flush()
    try:
        kept = os.dup(1)
    except OSError:  # closed
        yield
        return
    try:
        with contextlib.suppress(OSError):
            os.dup2(2, 1)
        yield
        flush()
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _flush() -> Callable[[], object]:
    """A function that empties C's own buffers."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return lambda: None
    return lambda: library.fflush(None)
