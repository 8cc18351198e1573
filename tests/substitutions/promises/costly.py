"""Promises that take seconds for each case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest

_Test = TypeVar("_Test", bound=Callable[..., None])


def costly(test: _Test) -> _Test:
    """Declares a promise that is tried with the first and the last case alone, or with all if asked."""
    test.costly = True  # type: ignore[attr-defined]
    return test


def marked(test: Callable[..., None], cases: Sequence[dict[str, Any]]) -> list[object]:
    """The cases as parameters of a promise; those between are exhaustive if it is costly."""
    inner = range(1, len(cases) - 1) if hasattr(test, "costly") else range(0)
    return [
        pytest.param(case, marks=[pytest.mark.exhaustive] if number in inner else [])
        for number, case in enumerate(cases)
    ]
