"""Searching for a student: who competes, who stays, what is written, and going on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Invoke
from runs import Listening

from seclcompress import artefact
from seclcompress.errors import ArtefactError, PlanError, UsageError
from seclcompress.report.searching import BEST, LEFT_OUT, Contender, Round, ranked
from seclcompress.settings.tournament import Tournament
from seclcompress.settings.training import TrainingSettings
from seclcompress.workflows.runs import InterruptedRunError
from seclcompress.workflows.searching import Searched, search
from seclcompress.workflows.training import train

pytestmark = pytest.mark.usefixtures("own_cache")

SHORT = TrainingSettings(epochs=4, batch_size=64, train_images=200, factor_optimizer="same")
FEW = Tournament(families=("separable", "shuffle", "slim", "bottleneck"), pictures=40)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught") / "teacher"
    settings = TrainingSettings(epochs=4, batch_size=64)
    train("wrn10_1", data="digits", output_dir=folder, settings=settings, input_size=(3, 16, 16))
    return folder


def found(teacher: Path, folder: Path, **others: Any) -> Searched:
    given: dict[str, Any] = {"tournament": FEW, "settings": SHORT, "data": "digits", **others}
    if "max_loss" not in given:
        given.setdefault("budget", "parameters=15k")
    return search(teacher, output_dir=folder, **given)


@pytest.mark.slow
def test_the_best_of_a_size_is_kept_and_a_stopped_search_goes_on(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, work = tmp_path / "out", tmp_path / "out.search"
    with pytest.raises(InterruptedRunError, match="the same command goes on"):
        found(teacher, out, time_limit=0)
    assert not out.exists()
    recovered = {
        path.name: (path / artefact.WEIGHTS).stat().st_mtime_ns for path in work.glob("*-recovered")
    }
    assert len(recovered) == 2  # neither slim nor a block can be
    said = Listening()
    done = found(teacher, out, observer=said)
    for name, when in recovered.items():
        assert (work / name / artefact.WEIGHTS).stat().st_mtime_ns == when

    by_name = {one.name: one for one in done.contenders}
    assert set(by_name) == {"separable", "shuffle", "slim", "bottleneck"}
    (narrowed,) = work.glob("*-slim-student")
    assert "accuracy" in artefact.read_config(narrowed).metrics  # pictures chose its channels
    assert [one.state for one in done.contenders].count(BEST) == 1
    assert done.best is ranked(done.contenders)[0] is done.contenders[0]
    assert all(one.parameters is not None and one.parameters <= 15_000 for one in by_name.values())
    # One of the two recovered ones stays, and what cannot be recovered; then half of these.
    epochs = sorted(tuple(each.epochs for each in one.rounds) for one in by_name.values())
    assert epochs == [(0,), (0, 1), (1,), (1, 4)] or epochs == [(0,), (0, 1, 4), (1,), (1, 4)]
    finalists = [one for one in by_name.values() if one.rounds[-1].epochs == 4]
    assert done.best.last is not None
    best = max(one.rounds[-1].validation_accuracy for one in finalists)
    assert done.best.last.validation_accuracy == best
    assert any(
        "Students are compared on 0.1 of the training images" in words for words in said.words
    )

    config = artefact.read_config(out)
    assert config.metrics["validation_accuracy"] == best
    assert config.metrics["teacher_accuracy"] == done.teacher_accuracy
    assert done.best.folder is not None
    same = (Path(done.best.folder) / artefact.WEIGHTS).read_bytes()
    assert (out / artefact.WEIGHTS).read_bytes() == same
    artefact.load(out)
    rows = list(csv.DictReader((out / "candidates.csv").read_text().splitlines()))
    assert [row["student"] for row in rows if row["epochs"] == "4"] == [
        one.name for one in done.contenders if one.rounds[-1].epochs == 4
    ]

    with pytest.raises(ArtefactError, match="is there already"):
        found(teacher, out)
    out.rename(tmp_path / "aside")
    other = SHORT.model_copy(update={"epochs": 2})
    with pytest.raises(UsageError, match="begun with another settings"):
        found(teacher, out, settings=other)


@pytest.mark.slow
def test_the_smallest_that_loses_little(teacher: Path, tmp_path: Path) -> None:
    two = Tournament(families=("separable", "shuffle"), pictures=40, sizes=3)
    once = SHORT.model_copy(update={"epochs": 1})
    done = found(teacher, tmp_path / "out", tournament=two, settings=once, max_loss=100.0)
    sizes = [int(one.budget.partition("=")[2].replace(",", "")) for one in done.contenders]
    assert sorted(set(sizes), reverse=True) == [sizes[0], sizes[0] // 2, sizes[0] // 4]
    chosen = [one for one in done.contenders if one.state == BEST]
    assert done.best is chosen[-1]
    assert done.best.parameters == min(one.parameters or 10**9 for one in chosen)
    with pytest.raises(PlanError, match=r"No student of .* loses 0 points at most: the best, "):
        found(teacher, tmp_path / "none", tournament=two, settings=once, max_loss=0.0)


@pytest.mark.slow
def test_a_network_is_narrowed_before_it_is_rewritten(teacher: Path, tmp_path: Path) -> None:
    """It takes over the layers of the narrowed network, and then learns from the whole one."""
    one = Tournament(families=("slim+separable",), pictures=40)
    once = SHORT.model_copy(update={"epochs": 1})
    done = found(teacher, tmp_path / "out", tournament=one, settings=once, budget="parameters=10k")
    (contender,) = done.contenders
    assert contender.state == BEST
    assert [each.epochs for each in contender.rounds] == [0, 1]
    assert 9_000 < (contender.parameters or 0) <= 10_000
    (narrowed,) = (tmp_path / "out.search").glob("*-slim-separable-narrowed")
    config = artefact.read_config(narrowed)
    assert config.plan is None
    assert config.network.widths
    out = artefact.read_config(tmp_path / "out")
    assert out.network.widths == config.network.widths
    assert out.plan is not None
    assert out.plan.families == ["separable"]
    (recovered,) = (tmp_path / "out.search").glob("*-recovered")
    assert "recovered" in artefact.read_config(recovered).training


@pytest.mark.slow
@pytest.mark.parametrize("sensitivity", ["recovered", "energy"])
def test_plans_go_by_the_measure(teacher: Path, tmp_path: Path, sensitivity: str) -> None:
    mixed = Tournament(families=("shuffle+separable",), pictures=40, sensitivity=sensitivity)
    once = SHORT.model_copy(update={"epochs": 1})
    done = found(teacher, tmp_path / "out", tournament=mixed, settings=once)
    kept = {path.name for path in (tmp_path / "cache").rglob("*.json")}
    assert ("sensitivities.json" in kept) == (sensitivity == "recovered")
    assert done.best.parameters is not None
    assert done.best.parameters <= 15_000


def test_errors_are_in_words(teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for given in ({"budget": None}, {"budget": "parameters=1k", "max_loss": 1.0}):
        with pytest.raises(UsageError, match="One of the two"):
            found(teacher, out, **given)
    with pytest.raises(UsageError, match="points of accuracy from 0 to 100"):
        found(teacher, out, max_loss=-1.0)
    wrong = ((("acdc", "acdc"), "acdc is named twice"), (("acd",), "acdc"), (("slim+acd",), "acdc"))
    for families, words in (*wrong, (("slim+acdc+separable",), "behind slim. there is one family")):
        with pytest.raises(UsageError, match=words):
            found(teacher, out, tournament=FEW.model_copy(update={"families": families}))
    with pytest.raises(PlanError, match="There is no student of .* to choose from"):
        found(teacher, out, budget="parameters=200")
    assert not out.exists()
    strange = tmp_path / "taken.search"
    strange.mkdir()
    (strange / "mine.txt").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(ArtefactError, match="was not made by a search"):
            found(teacher, tmp_path / "taken", overwrite=overwrite)
    assert (strange / "mine.txt").read_text() == "precious"


def test_ranking_by_rounds_then_by_held_out_images() -> None:
    def one(name: str, *rounds: tuple[int, float]) -> Contender:
        made = tuple(Round(epochs, held, 100 - held, 1.0) for epochs, held in rounds)
        return Contender(name, "b", "behind", 10, 10, made)

    lost = Contender("lost", "b", LEFT_OUT, reason="too small")
    behind, first, second = one("c", (0, 99.0)), one("a", (0, 1.0), (4, 50.0)), one("b", (4, 40.0))
    assert ranked([lost, behind, second, first]) == [first, second, behind, lost]


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 80])
def test_the_command(
    teacher: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = tmp_path / "out"
    words = ["search", teacher, "--data", "digits", "-o", out, "--budget", "parameters=12k"]
    words += ["--families", "shuffle,bottleneck", "--epochs", 1, "--train-images", 150]
    words += ["--pictures", 30, "--factor-optimizer", "same"]
    done = invoke(*words)
    assert all(len(line) <= width for line in done.stdout.splitlines() if "Wrote" not in line)
    assert "times fewer" in " ".join(done.stdout.split())
    assert f"Wrote {out}." in done.stdout
    assert "of the held-out images." in " ".join(done.stderr.split())
    record = json.loads(invoke(*words, "--overwrite", "--json").stdout)
    assert record["best"]["state"] == "best"
    assert {one["name"] for one in record["contenders"]} == {"shuffle", "bottleneck"}
    assert "--keep 1: it takes a share" in invoke(*words, "--keep", 1, code=2).stderr
