"""Which execution trains quicker: by Mult-Adds, at the price that factors' Mult-Adds have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seclcompress import substitutions
from seclcompress.substitutions.shapes.quickest import BLOCKS, CHAIN, PAIRS, quickest

COUNTS = st.floats(1, 1e12)
CHANNELS = st.integers(1, 8192)


@given(COUNTS, COUNTS, CHANNELS)
def test_without_overhead_fewer_mult_adds_are_quicker(
    fast: float, dense: float, channels: int
) -> None:
    assert (quickest(fast, dense, channels, 0) == "fast") == (fast < dense)


@given(COUNTS, COUNTS, CHANNELS, st.sampled_from([CHAIN, BLOCKS, PAIRS]))
def test_what_is_quicker_stays_so_with_more_channels(
    fast: float, dense: float, channels: int, overhead: float
) -> None:
    if quickest(fast, dense, channels, overhead) == "fast":
        assert quickest(fast, dense, 2 * channels, overhead) == "fast"
        assert fast < dense


@pytest.mark.parametrize(
    ("family", "options", "channels", "expected"),
    [  # as measured, docs/performance.md
        ("low_rank", {"ratio": 0.25}, 1024, "fast"),
        ("low_rank", {"ratio": 0.25}, 32, "dense"),
        ("monarch", {"ratio": 0.25}, 64, "dense"),
        ("monarch", {"ratio": 0.25}, 1024, "fast"),
        ("butterfly", {}, 64, "dense"),
        ("butterfly", {}, 256, "dense"),
        ("kronecker", {"ratio": 0.25}, 256, "dense"),
        ("tensor_train", {"ratio": 0.0625}, 64, "dense"),
    ],
)
def test_layers_take_what_was_measured(
    family: str, options: dict[str, Any], channels: int, expected: str
) -> None:
    made = substitutions.get(family)
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    layer: Any = made.build(conv, made.config(options))
    assert layer.pointwise.quickest_in_training(64 * 256) == expected
