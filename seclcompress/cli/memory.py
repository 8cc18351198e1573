"""Failures for want of memory, which libraries report in many ways."""

from __future__ import annotations

import errno
import re

_WORDS = re.compile(
    r"bad_alloc|can't allocate memory|cannot allocate memory|failed to map segment|"
    r"not enough memory|unable to allocate|out of memory|thread creation failed|"
    r"can't start new thread",
    re.IGNORECASE,
)


def is_want_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or one that it came from, tells that memory could not be had."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, ImportError | OSError | RuntimeError) and _WORDS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
