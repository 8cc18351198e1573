"""`slim --rewritten-as`: the budget is that of what `convert` makes of the narrowed network."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Invoke
from listening import Listening

from seclcompress import artefact, workflows
from seclcompress.errors import PlanError, UsageError
from seclcompress.report.slimming import slim_words
from seclcompress.settings import PlanOptions
from seclcompress.settings.slimming import SlimOptions

SMALL = {"input_size": (3, 16, 16), "num_classes": 10}


def test_a_budget_can_be_that_of_what_is_rewritten(tmp_path: Path) -> None:
    options = SlimOptions(rewritten_as="separable")
    told = Listening()
    done = workflows.slim(
        "wrn10_2", "parameters=30k", tmp_path / "out", options=options, observer=told, **SMALL
    )
    as_separable = PlanOptions(substitution="separable")
    counted = workflows.convert(tmp_path / "out", options=as_separable).count.columns
    assert done.rewritten is not None
    assert 29_000 < done.rewritten.parameters <= 30_000
    assert done.rewritten.parameters == counted["auto"].parameters
    assert done.rewritten.mult_adds == counted["auto"].mult_adds
    assert done.after.parameters == counted["original"].parameters > 60_000
    assert "with --substitution separable, recover that from" in told.messages[-1]
    assert f"Rewritten as separable it has {done.rewritten.parameters:,}" in slim_words(done)


def test_what_is_rewritten_is_refused_in_words(tmp_path: Path) -> None:
    for options, budget, words in (
        (SlimOptions(rewritten_as="nothing"), "parameters=30k", "nothing"),
        (SlimOptions(rewritten_as="separable", rounds=2), "parameters=30k", "as it is. Drop it"),
        (
            SlimOptions(rewritten_as="separable", energy=0.9, method="svd"),
            None,
            "says nothing. Drop",
        ),
    ):
        with pytest.raises(UsageError, match=words):
            workflows.slim(
                "wrn10_2", budget, tmp_path / "out", options=options, data="digits", **SMALL
            )
    separable = SlimOptions(rewritten_as="separable")
    for budget, words in (
        ("parameters=200k", "meets the budget rewritten as separable"),
        ("parameters=300", "parameters, .* too many when it is rewritten as separable"),
    ):
        with pytest.raises(PlanError, match=words):
            workflows.slim("wrn10_2", budget, tmp_path / "out", options=separable, **SMALL)


def test_by_the_command_line(invoke: Invoke) -> None:
    named = ("wrn10_2", "--input-size", "3x16x16", "--num-classes", 10)
    shown = invoke(
        "slim", *named, "--budget", "parameters=30k", "--rewritten-as", "separable", "-o", "narrow"
    )
    assert "Rewritten as separable it has" in " ".join(shown.stdout.split())
    invoke("convert", "narrow", "--substitution", "separable", "-o", "student")
    plan = artefact.read_config(Path("student")).plan
    assert plan is not None
    assert plan.families == ["separable"]
