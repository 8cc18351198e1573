"""Counting through Python."""

from __future__ import annotations

from pathlib import Path

from seclcompress import artefact
from seclcompress.settings import PlanOptions
from seclcompress.workflows import convert, count


def test_the_reference() -> None:
    found = count("wrn40_2", options=PlanOptions(keep=("*.shortcut",)))
    assert found.label == "wrn40_2"
    assert found.count.columns["original"].parameters == 2_243_546
    assert found.count.columns["auto"].parameters == 105_578
    assert len(found.plan.rewritten) == 36
    assert (found.accuracies, found.verified) == ({}, {})


def test_a_network_that_keeps_everything_is_counted() -> None:
    found = count("wrn10_1", options=PlanOptions(keep=("*",)))
    assert found.plan.rewritten == []
    assert found.count.ratio("auto", "parameters") == 1


def test_fvcore_is_asked() -> None:
    found = count("wrn10_1", options=PlanOptions(config={"depth": 2}), verify=True)
    assert found.verified == {
        column: found.count.columns[column].mult_adds for column in ("original", "dense")
    }


def test_accuracies_are_those_of_the_folders_own_plan(tmp_path: Path) -> None:
    convert("wrn10_1", tmp_path / "student", options=PlanOptions(config={"depth": 2}))
    config = artefact.read_config(tmp_path / "student")
    metrics = {"accuracy": 90.0, "teacher_accuracy": 95.0, "test_loss": 0.1}
    for training, known in (
        ({"data": "digits", "alpha": 0.9}, {"original": 95.0, "auto": 90.0}),
        ({"data": "digits"}, {"auto": 90.0}),  # the teacher's may be of other images
    ):
        trained = config.model_copy(update={"metrics": metrics, "training": training})
        network = artefact.load(tmp_path / "student")
        artefact.save(tmp_path / "trained", network, trained, overwrite=True)
        assert count(tmp_path / "trained").accuracies == known
    assert count(tmp_path / "trained", options=PlanOptions()).accuracies == {}
    assert count(tmp_path / "student").accuracies == {}
