"""`slim` with gates, an edge, or rounds: a run that ends in a narrower network, in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Listening, Silent

from seclcompress import artefact, workflows
from seclcompress.errors import PlanError, UsageError
from seclcompress.settings import TrainingSettings
from seclcompress.settings.slimming import SlimOptions
from seclcompress.workflows.training import InterruptedRunError

SHORT = TrainingSettings(epochs=2, train_images=120, batch_size=30, workers=0)
WAYS: dict[str, dict[str, Any]] = {
    "gates": {"method": "gates", "price_by": "parameters"},
    "sigmoid": {"method": "sigmoid"},
    "rounds": {"rounds": 2},
    "svd": {"method": "svd", "rounds": 2, "pictures": 80},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "whole"
    workflows.train(
        "wrn10_1",
        data="digits",
        output_dir=folder,
        settings=SHORT,
        input_size=(3, 8, 8),
        observer=Silent(),
    )
    return folder


def slim(way: str, network: Path | str, folder: Path, **more: Any) -> Any:
    given = {
        "budget": "parameters=20k",
        "data": "digits",
        "settings": SHORT,
        "observer": Silent(),
        "options": SlimOptions(**WAYS[way]),
    }
    return workflows.slim(network, output_dir=folder, **{**given, **more})


@pytest.mark.parametrize("way", [*WAYS])
def test_the_folder_holds_the_network_that_it_became(way: str, whole: Path, tmp_path: Path) -> None:
    said = Listening()
    done = slim(way, whole, tmp_path / "out", observer=said)
    assert done.after.parameters <= 20_000 < done.before.parameters == 77_850
    config = artefact.read_config(tmp_path / "out")
    made = artefact.load(tmp_path / "out")
    assert sum(p.numel() for p in made.parameters()) == done.after.parameters
    assert config.network.widths
    counted = workflows.count(tmp_path / "out").count.columns["original"]
    assert (counted.parameters, counted.mult_adds) == (done.after.parameters, done.after.mult_adds)
    measured = workflows.evaluate(tmp_path / "out", data="digits", observer=Silent())
    assert measured.accuracy == pytest.approx(done.accuracy_after)
    assert config.metrics["accuracy"] == pytest.approx(done.accuracy_after)
    assert config.metrics["before_accuracy"] == pytest.approx(done.accuracy_before)
    assert "best_accuracy" not in config.metrics
    assert config.training["slimmed"]["parameters"] == 77_850
    # What was trained already is not undone by the rate of new layers, and gates do not decay.
    assert config.training["lr"] == 0.01
    assert config.training["group_decay"].get("gates") == (
        0.0 if way in ("gates", "sigmoid") else None
    )
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["parameters"] == done.after.parameters
    assert [line["epoch"] for line in done.epochs] == [1, 2]
    assert not (tmp_path / "out" / "best.safetensors").exists()
    assert "lost whole channels meanwhile" in (tmp_path / "out" / "README.md").read_text()
    assert any("the network keeps its size" in words for words in said.words)
    assert sum(one.after < one.before for one in done.groups) > 0


def test_a_teacher_and_what_comes_after(whole: Path, tmp_path: Path) -> None:
    slim("gates", whole, tmp_path / "slim", teacher=whole, untrained_teacher=True)
    config = artefact.read_config(tmp_path / "slim")
    assert config.training["teacher_folder"] == "whole"
    assert "teacher_accuracy" in config.metrics
    assert config.distilled
    # A narrower network is a network: it is narrowed again, and distilled.
    again = workflows.slim(tmp_path / "slim", "parameters=10k", tmp_path / "again")
    assert again.after.parameters <= 10_000
    workflows.distill(
        tmp_path / "slim",
        teacher=whole,
        data="digits",
        output_dir=tmp_path / "distilled",
        settings=SHORT,
        untrained_teacher=True,
        observer=Silent(),
    )
    assert artefact.read_config(tmp_path / "distilled").network.widths == config.network.widths


def test_a_random_network_is_trained_at_the_usual_rate(tmp_path: Path) -> None:
    slim("rounds", "wrn10_1", tmp_path / "out", input_size=(3, 8, 8))
    config = artefact.read_config(tmp_path / "out")
    assert config.training["lr"] == 0.1
    assert "before_accuracy" not in config.metrics


def test_interrupted_and_resumed(whole: Path, tmp_path: Path) -> None:
    slim("gates", whole, tmp_path / "one")
    with pytest.raises(InterruptedRunError, match="--resume"):
        slim("gates", whole, tmp_path / "two", time_limit=0)
    slim("gates", whole, tmp_path / "two", resume=True)
    one, two = (artefact.load(tmp_path / name).state_dict() for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"data": None}, UsageError, "name the images with --data"),
        ({"budget": None}, UsageError, "How small"),
        ({"budget": "parameters=1G"}, PlanError, "meets the budget as it is"),
        ({"budget": "parameters=10"}, PlanError, "cannot meet the budget"),
        ({"budget": "ms=3"}, UsageError, "ms"),
        ({"settings": SHORT.model_copy(update={"patience": 1})}, UsageError, "--patience"),
        ({"settings": SHORT.model_copy(update={"compile": True})}, UsageError, "--compile"),
        ({"options": SlimOptions(method="gates", rounds=2)}, UsageError, "--rounds is for"),
        ({"teacher_weights": "w.pth"}, UsageError, "does nothing without --teacher"),
    ],
)
def test_what_contradicts_itself(
    changes: dict[str, Any], error: type[Exception], words: str, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        slim("gates", whole, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_a_converted_network_is_refused(converted: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Slim the network it was made from"):
        slim("gates", converted, tmp_path / "out")


@pytest.mark.parametrize("option", ["teacher", "resume", "time_limit"])
def test_options_of_a_run_need_a_run(option: str, whole: Path, tmp_path: Path) -> None:
    value = {"teacher": whole, "resume": True, "time_limit": 3.0}[option]
    with pytest.raises(UsageError, match="is for a network that is trained"):
        workflows.slim(whole, "parameters=20k", tmp_path / "out", **{option: value})
