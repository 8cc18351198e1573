"""Runs a family's promises over the cases that its test names."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("promises")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cases = getattr(metafunc.cls, "cases", None)
    if cases is not None and "options" in metafunc.fixturenames:
        names = [",".join(f"{key}={value}" for key, value in case.items()) for case in cases]
        metafunc.parametrize("options", cases, ids=[name or "defaults" for name in names])
