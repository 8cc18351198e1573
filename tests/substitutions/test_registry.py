"""The registered families, and that the promises are run for each of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from seclcompress import substitutions
from seclcompress.errors import UsageError


def test_every_family_has_a_test_of_its_promises() -> None:
    here = Path(__file__).parent
    for name in substitutions.names():
        text = (here / f"test_{name}.py").read_text(encoding="utf-8")
        assert f'family = substitutions.get("{name}")' in text
        assert "Promises" in text


def test_every_family_says_what_it_is() -> None:
    for name in substitutions.names():
        family = substitutions.get(name)
        assert family.name == name
        assert family.summary
        assert family.Config.__doc__


def test_unknown_families() -> None:
    for typed, meant in (("acdd", "acdc"), ("seperable", "separable")):
        with pytest.raises(UsageError) as caught:
            substitutions.get(typed)
        words = str(caught.value)
        assert words.startswith(f"Unknown substitution '{typed}'. Did you mean ")
        assert meant in words
    with pytest.raises(UsageError) as caught:
        substitutions.get("zzzzzzzz")
    there = ", ".join(substitutions.names())
    assert str(caught.value) == f"Unknown substitution 'zzzzzzzz'. There are: {there}."


def test_execution_is_switched_for_a_whole_network() -> None:
    acdc, separable = substitutions.get("acdc"), substitutions.get("separable")
    network = nn.Sequential(
        acdc.build(nn.Conv2d(4, 8, 1), acdc.config({})),
        nn.ReLU(),
        separable.build(nn.Conv2d(8, 8, 1), separable.config({})),
    )
    substitutions.set_execution(network, "fast")
    assert network[0].execution == "fast"
    with pytest.raises(UsageError, match="Unknown execution 'quick'"):
        substitutions.set_execution(network, "quick")
