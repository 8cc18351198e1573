"""A plan that gains little says so."""

from __future__ import annotations

from listening import Listening

from seclcompress.settings import PlanOptions
from seclcompress.workflows import convert, count


def told(network: str, **options: object) -> str:
    listening = Listening()
    count(network, options=PlanOptions(**options), observer=listening)
    return " ".join(listening.messages)


def test_parameters_that_stay_in_linear_layers() -> None:
    words = told("mobilenet_v3_small")
    assert "590,848 of the 1,930,184 parameters" not in words  # the classifier has more
    listening = Listening()
    count("mobilenet_v3_small", num_classes=10, observer=listening)
    words = " ".join(listening.messages)
    assert "590,848 of the " in words
    assert "parameters that stay are in Linear layers; --linear rewrites those too." in words
    assert "--linear" not in told("mobilenet_v3_small", linear=True)
    assert "--linear" not in told("resnet50")


def test_no_mult_adds_saved() -> None:
    listening = Listening()
    options = PlanOptions(config={"depth": 2}, only=("features.2.block.2.0",))
    convert("mobilenet_v3_small", options=options, observer=listening)
    assert "no Mult-Adds" not in told("resnet18")
    assert "saves parameters, but no Mult-Adds" in told("mobilenet_v3_small")
