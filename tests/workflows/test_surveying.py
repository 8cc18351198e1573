"""A survey through Python; test_survey.py has the command line."""

from __future__ import annotations

import pytest

from seclcompress.errors import NetworkError, UsageError
from seclcompress.settings import PlanOptions
from seclcompress.workflows import count, survey


def test_what_is_found_comes_network_by_network() -> None:
    options = PlanOptions(config={"depth": 8})
    one, two = survey("*squeezenet1_?", options=options)
    assert (one.network, two.network) == ("squeezenet1_0", "squeezenet1_1")
    assert one.counted == count("squeezenet1_0", options=options).count
    assert one.rewritten + sum(times for _, times in one.kept) == 26
    assert dict(one.kept)["the stem"] == 1


def test_a_quantised_network_is_refused_as_expected() -> None:
    [found] = survey("quantized_*net18")
    assert found.counted is None
    assert found.expected
    assert "8-bit integers" in (found.refused or "")


def test_what_is_wrong_with_the_question_is_said_at_once() -> None:
    with pytest.raises(NetworkError, match="None of torchvision's"):
        survey("qq*")
    with pytest.raises(UsageError, match="separable takes no option depth"):
        survey(options=PlanOptions(substitution="separable", config={"depth": 3}))
