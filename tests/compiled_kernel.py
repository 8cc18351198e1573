"""Marks of tests of the compiled kernel."""

from __future__ import annotations

import pytest

from seclcompress import kernel

needs_kernel = pytest.mark.skipif(not kernel.available(), reason="built without a compiler")
#: Of tests that run it, on numbers of threads of their own.
RUNS_KERNEL = [needs_kernel, pytest.mark.usefixtures("restore_threads")]
