"""A limit on the memory that a part of a test may take."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator


def _peak() -> int:
    """The largest memory that this process has had so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextlib.contextmanager
def grows_by_less_than(limit: int) -> Iterator[None]:
    """Asserts that the process's peak memory grows by fewer bytes than that during a block."""
    before = _peak()
    yield
    assert _peak() - before < limit
