"""The plain separable family, which is the baseline."""

from __future__ import annotations

from promises import SplitPromises

from seclcompress import substitutions


class TestSeparable(SplitPromises):
    family = substitutions.get("separable")
