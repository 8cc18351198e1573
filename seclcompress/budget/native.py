"""What compiled code prints on standard output by itself."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def no_output() -> Iterator[None]:
    """Throws away what compiled code prints on standard output: HiGHS names its own functions there.

    That is told to nobody, and a command's standard output is its result. What HiGHS found out it says
    by its status. Python's own printing is thrown away meanwhile, too, in all threads. Where a system
    has no standard output or no C library by that name, nothing changes.
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
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.close(nowhere)
        yield
    finally:
        flush()
        os.dup2(kept, 1)
        os.close(kept)


def _flush() -> Callable[[], object]:
    """A function that empties C's own buffers."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return lambda: None
    return lambda: library.fflush(None)
