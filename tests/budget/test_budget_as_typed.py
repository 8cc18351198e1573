"""Budgets as a person types them, and what they limit."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from seclcompress.errors import UsageError
from seclcompress.settings.budget import Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("parameters=100k", Budget(parameters=100_000)),
        ("parameters=100000", Budget(parameters=100_000)),
        (" parameters = 1.5M , mult-adds=2G ", Budget(parameters=1_500_000, mult_adds=2 * 10**9)),
        ("bytes=400kB", Budget(bytes=400_000)),
        ("bytes=4MB", Budget(bytes=4_000_000)),
        ("bytes=1GB,parameters=3K", Budget(bytes=10**9, parameters=3000)),
        ("bytes=12", Budget(bytes=12)),
        ("ms=20", Budget(ms=20)),
        ("ms=.125,parameters=3k", Budget(ms=0.125, parameters=3000)),
        # As typed: the nearest binary fraction of 8.29 times 1,000,000 is less than 8,290,000.
        ("mult-adds=8.29M", Budget(mult_adds=8_290_000)),
    ],
)
def test_units(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget
    assert parse_budget(str(budget).replace(",", "").replace(" ", ",")) == budget


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        (" , ", "it is empty"),
        ("parameters", "parameters=NUMBER, mult-adds=NUMBER, bytes=NUMBER, ms=NUMBER"),
        ("ms=20k", "--budget ms=20k: it takes a number of milliseconds"),
        ("ms=20ms", "it takes a number of milliseconds"),
        ("ms=0", "it takes a number of milliseconds"),
        ("ms=0.0000001", "it takes a number of milliseconds"),
        ("ms=1,ms=2", "ms is given twice"),
        ("seconds=5", "--budget seconds=5: it takes"),
        ("mult_adds=5", "--budget mult_adds=5: it takes"),
        ("parameters=1k,parameters=2k", "parameters is given twice"),
        ("parameters=0", "at least 1"),
        ("parameters=0.4", "at least 1"),
        ("parameters=-3", "--budget parameters=-3"),
        ("parameters=many", "as 100000, 100k or 1.5M."),
        ("parameters=100kB", "as 100000, 100k or 1.5M."),
        ("bytes=1TB", "400kB"),
        ("mult-adds=1e6", "--budget mult-adds=1e6"),
        ("bytes=", "at least 1"),
    ],
)
def test_what_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_budget(text)
    assert words in str(caught.value)


def test_bytes_are_a_limit_of_float32_parameters() -> None:
    assert Budget(bytes=403).limits == {"parameters": 100}
    assert Budget(bytes=400, parameters=90).limits == {"parameters": 90}
    assert Budget(bytes=200, parameters=90).limits == {"parameters": 50}
    assert Budget(mult_adds=7).limits == {"mult_adds": 7}
    assert Budget(bytes=3).limits == {"parameters": 0}
    assert Budget().limits == {}
    assert Budget(ms=0.29).limits == {"nanoseconds": 290_000}
    assert Budget(ms=2, mult_adds=7).untimed == Budget(mult_adds=7)


def test_what_is_held_is_said_of_everything_that_is_limited() -> None:
    held = Budget(parameters=1000, bytes=3000, mult_adds=50).held(parameters=800, mult_adds=50)
    assert list(map(str, held)) == [
        "800 of 1,000 parameters",
        "50 of 50 Mult-Adds",
        "3,200 of 3,000 float32 bytes, 200 too many",
    ]


def test_a_time_is_said_as_what_it_is() -> None:
    budget = Budget(ms=12.5, parameters=10)
    held = budget.held(parameters=4, mult_adds=50, nanoseconds=13_000_000)
    assert [str(one) for one in held] == [
        "4 of 10 parameters",
        "13.00 of 12.50 ms an image, 0.50 too many",
    ]
    assert held[0].left == "6 left over"
    assert Budget(ms=0.02).held(1, 1, 5_000)[0].left == "0.015 left over"
    assert len(budget.held(parameters=4, mult_adds=50)) == 1


def test_a_budget_of_nothing_is_none() -> None:
    with pytest.raises(ValidationError):
        Budget(parameters=0)
    with pytest.raises(ValidationError):
        Budget(ms=0)
