"""Recovering through Python and on the command line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import Invoke
from runs import Listening

from seclcompress import artefact
from seclcompress.errors import ArtefactError, UsageError
from seclcompress.observer import Observer
from seclcompress.settings.planning import PlanOptions
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.training import TrainingSettings
from seclcompress.workflows.converting import convert
from seclcompress.workflows.counting import count
from seclcompress.workflows.recovering import Recovered, recover
from seclcompress.workflows.runs import worse
from seclcompress.workflows.training import InterruptedRunError, distill, train

FEW = RecoverySettings(pictures=100, iterations=20)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught") / "teacher"
    settings = TrainingSettings(epochs=4, batch_size=64)
    train("wrn10_1", data="digits", output_dir=folder, settings=settings, input_size=(3, 16, 16))
    return folder


def student_of(teacher: Path, folder: Path, family: str, **options: Any) -> Path:
    start = options.pop("start", "original")
    planned = PlanOptions(substitution=family, config=options)
    convert(teacher, folder, options=planned, start=start)
    return folder


def recovered(student: Path, teacher: Path, output: Path, **others: Any) -> Recovered:
    given = {"settings": FEW, "data": "digits", **others}
    return recover(student, teacher=teacher, output_dir=output, **given)


@pytest.mark.parametrize("family", ["separable", "monarch"])
def test_each_layer_comes_nearer_and_most_of_the_accuracy_is_back(
    teacher: Path, tmp_path: Path, family: str
) -> None:
    student = student_of(teacher, tmp_path / "student", family, start="random")
    found = recovered(student, teacher, tmp_path / "recovered")
    new = [layer for layer in found.layers if layer.rewritten]
    plan = artefact.read_config(student).plan
    assert plan is not None
    assert [layer.name for layer in new] == [layer.name for layer in plan.rewritten]
    assert all(layer.after < 0.9 * layer.before for layer in new)
    accuracy, start = found.metrics["accuracy"], found.metrics["start_accuracy"]
    assert start < 40 < accuracy - start
    assert found.pictures == 100

    config = artefact.read_config(tmp_path / "recovered")
    assert config.metrics == found.metrics
    assert not config.distilled
    record = config.training["recovered"]
    assert (record["pictures"], record["seed"], record["iterations"]) == (100, 0, 20)
    assert [layer["after"] for layer in record["layers"]] == [one.after for one in found.layers]
    assert config.training["teacher_folder"] == "teacher"
    card = (tmp_path / "recovered" / artefact.CARD).read_text(encoding="utf-8")
    assert "on 100 pictures (`seclcompress recover`)" in card
    assert count(tmp_path / "recovered").accuracies["auto"] == accuracy


def test_the_same_seed_gives_the_same_weights(teacher: Path, tmp_path: Path) -> None:
    student = student_of(teacher, tmp_path / "student", "separable")
    weights = []
    short = RecoverySettings(pictures=50, iterations=3, inputs="student")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        training = TrainingSettings(seed=seed)
        recovered(student, teacher, tmp_path / name, settings=short, training=training)
        weights.append((tmp_path / name / artefact.WEIGHTS).read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_only_new_layers_change_without_kept(teacher: Path, tmp_path: Path) -> None:
    student = student_of(teacher, tmp_path / "student", "separable")
    settings = FEW.model_copy(update={"kept": False, "batch_norm": "never", "iterations": 5})
    found = recovered(student, teacher, tmp_path / "out", settings=settings)
    assert all(layer.rewritten for layer in found.layers)
    names = tuple(layer.name for layer in found.layers)
    before, after = (
        safetensors.torch.load_file(folder / artefact.WEIGHTS)
        for folder in (student, tmp_path / "out")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(names) for name in changed)


@pytest.mark.parametrize("inputs", ["teacher", "student"])
def test_either_kind_of_inputs(teacher: Path, tmp_path: Path, inputs: str) -> None:
    student = student_of(teacher, tmp_path / "student", "separable")
    settings = FEW.model_copy(update={"inputs": inputs})
    found = recovered(student, teacher, tmp_path / "out", settings=settings)
    assert found.metrics["accuracy"] > found.metrics["start_accuracy"] + 10
    assert any(not layer.rewritten for layer in found.layers) == (inputs == "student")


def test_distillation_goes_on_from_it(teacher: Path, tmp_path: Path) -> None:
    student = student_of(teacher, tmp_path / "student", "separable")
    short = RecoverySettings(pictures=50, iterations=5, inputs="student")
    recovered(student, teacher, tmp_path / "out", settings=short)
    settings = TrainingSettings(epochs=1, train_images=150, lr=0.01)
    done = distill(
        tmp_path / "out",
        teacher=teacher,
        data="digits",
        output_dir=tmp_path / "d",
        settings=settings,
    )
    assert done.before["before"] == artefact.read_config(tmp_path / "out").metrics["accuracy"]


def test_errors_are_in_words(teacher: Path, tmp_path: Path) -> None:
    student = student_of(teacher, tmp_path / "student", "separable")
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="has no rewritten layer, so there is nothing to recover"):
        recovered(teacher, shutil.copytree(teacher, tmp_path / "copy"), out)
    with pytest.raises(UsageError, match="conv1 is rewritten in --teacher .*again as well"):
        recovered(student, shutil.copytree(student, tmp_path / "again"), out)
    other = tmp_path / "other"
    settings = TrainingSettings(epochs=1, train_images=150)
    train("wrn10_2", data="digits", output_dir=other, settings=settings, input_size=(3, 16, 16))
    with pytest.raises(
        UsageError, match=r"has out_channels \d+ in the student and \d+ in --teacher"
    ):
        recovered(student, other, out)
    block = student_of(teacher, tmp_path / "block", "bottleneck", start="random")
    with pytest.raises(UsageError, match="None of the rewritten layers .* not one convolution"):
        recovered(block, teacher, out)
    with pytest.raises(ArtefactError, match="is read by this command"):
        recovered(student, teacher, student, overwrite=True)
    assert not out.exists()


def test_distilling_can_begin_with_it(teacher: Path, tmp_path: Path) -> None:
    """The two steps as one; a stopped run goes on with the weights that it had recovered."""
    student, said = student_of(teacher, tmp_path / "student", "separable"), Listening()
    short = RecoverySettings(pictures=50, iterations=5, inputs="student")
    settings = TrainingSettings(epochs=2, train_images=150)
    recovered(student, teacher, tmp_path / "recovered", settings=short, training=settings)
    given: dict[str, Any] = {"teacher": teacher, "data": "digits", "settings": settings}
    apart = distill(tmp_path / "recovered", output_dir=tmp_path / "apart", **given)
    with pytest.raises(InterruptedRunError):
        distill(student, output_dir=tmp_path / "one", recovery=short, time_limit=0, **given)
    kept = tmp_path / "one.partial" / "recovered.safetensors"
    assert kept.is_file()
    together = distill(
        student, output_dir=tmp_path / "one", recovery=short, resume=True, observer=said, **given
    )
    assert "Begins with the weights that the interrupted run had recovered." in said.words
    assert not kept.parent.exists()
    assert together.before == apart.before
    for name in (artefact.WEIGHTS, "best.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "apart" / name).read_bytes()
    training = artefact.read_config(tmp_path / "one").training
    assert training["lr"] == 0.01
    first = artefact.read_config(tmp_path / "recovered").training["recovered"]
    assert training["recovered"] == first
    card = (tmp_path / "one" / artefact.CARD).read_text(encoding="utf-8")
    assert "first took over the outputs of its teacher's layers, on 50 pictures" in card
    assert "recover ./student" in card or "recover student" in card  # other settings: two commands

    other = TrainingSettings(epochs=2, train_images=150, seed=3)
    damaged = tmp_path / "two.partial"
    with pytest.raises(InterruptedRunError):
        distill(
            student,
            output_dir=tmp_path / "two",
            recovery=short,
            time_limit=0,
            **{**given, "settings": other},
        )
    kept = damaged / "recovered.safetensors"
    kept.write_bytes(kept.read_bytes()[:-7])
    again = {**given, "settings": other, "resume": True, "observer": said}
    distill(student, output_dir=tmp_path / "two", recovery=short, **again)
    assert said.words.count("Begins with the weights that the interrupted run had recovered.") == 1


def test_the_command_begins_with_it(teacher: Path, tmp_path: Path, invoke: Invoke) -> None:
    student, out = student_of(teacher, tmp_path / "student", "separable"), tmp_path / "out"
    words = ["distill", str(student), "--teacher", str(teacher), "--data", "digits", "-o", str(out)]
    short = ("--train-images", 100, "--epochs", 1, "--pictures", 40)
    assert "--pictures is for --recover" in invoke(*words, *short, code=2).stderr
    done = invoke(*words, *short, "--recover").stderr
    assert re.search(r"Recovered \d+ layers from 40 pictures in", done.replace("\n", " "))
    card = (out / artefact.CARD).read_text(encoding="utf-8")
    assert "--recover --pictures 40" in card


class Stopping(Observer):
    """Behaves like Ctrl-C after the second layer."""

    def message(self, words: str) -> None:
        if words.startswith("group2"):
            raise KeyboardInterrupt


def test_an_interruption_leaves_nothing(teacher: Path, tmp_path: Path) -> None:
    student = student_of(teacher, tmp_path / "student", "separable")
    there = sorted(tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        recovered(student, teacher, tmp_path / "out", observer=Stopping())
    assert sorted(tmp_path.rglob("*")) == there


def test_the_command(teacher: Path, tmp_path: Path, invoke: Invoke) -> None:
    student, out = student_of(teacher, tmp_path / "student", "separable"), tmp_path / "out"
    words = ["recover", str(student), "--teacher", str(teacher), "--data", "digits", "-o", str(out)]
    few = ("--pictures", 100, "--iterations", 20, "--inputs", "student")
    done = invoke(*words, *few)
    assert f"Wrote {out}: " in done.stdout.replace("\n", " ")
    assert "of the test images right. Before: " in done.stdout
    assert "Error of each layer's outputs" in done.stdout
    record = artefact.read_config(out).training["recovered"]
    assert (record["pictures"], record["iterations"], record["inputs"]) == (100, 20, "student")
    assert "--overwrite" in invoke(*words, code=1).stderr
    assert (
        "--ridge: it takes a number above 0, not 0" in invoke(*words, "--ridge", 0, code=2).stderr
    )
    invoke(*words, "--pictures", 1, code=2)
    found = json.loads(invoke(*words, *few, "--overwrite", "--json").stdout)
    assert found["metrics"]["accuracy"] == artefact.read_config(out).metrics["accuracy"]
    assert [layer["name"] for layer in found["layers"]] == [one["name"] for one in record["layers"]]
    lost = invoke("recover", "nowhere/at/all", *words[2:-1], tmp_path / "new", code=1)
    assert "nowhere/at/all" in lost.stderr


@pytest.mark.parametrize("when", ["never", "end", "each"])
def test_when_batch_norm_is_estimated(teacher: Path, tmp_path: Path, when: str) -> None:
    student = student_of(teacher, tmp_path / "student", "separable")
    settings = RecoverySettings(pictures=60, iterations=3, batch_norm=when)  # type: ignore[arg-type]
    recovered(student, teacher, tmp_path / "out", settings=settings)
    before, after = (
        {
            name: value
            for name, value in artefact.load(folder).state_dict().items()
            if name.endswith("running_mean")
        }
        for folder in (student, tmp_path / "out")
    )
    same = [torch.equal(before[name], after[name]) for name in before]
    assert all(same) if when == "never" else not any(same[1:])


def test_a_run_that_makes_a_student_worse_says_so(teacher: Path, tmp_path: Path) -> None:
    student = student_of(teacher, tmp_path / "student", "separable")
    recovered(student, teacher, tmp_path / "recovered")
    said = []
    for lr in (3.0, 1e-3):
        settings = TrainingSettings(epochs=1, batch_size=64, train_images=128, lr=lr)
        heard = Listening()
        run = {"teacher": teacher, "data": "digits", "settings": settings, "observer": heard}
        distill(tmp_path / "recovered", output_dir=tmp_path / f"out-{lr}", **run)
        said.append(any("This run made the network worse" in words for words in heard.words))
    assert said == [True, False]


def test_a_difference_that_chance_makes_is_not_told() -> None:
    assert worse(90.0, 89.0, 360, 0.1) is None
    assert worse(10.0, 100.0, 360, 0.1) is None
    assert worse(100.0, 100.0, 360, 0.1) is None
    said = worse(90.0, 80.0, 360, 0.1)
    assert said is not None
    assert "90.00 % of the test images were right before it, and 80.00 % are now" in said
    assert "A lower --lr than 0.1" in said


@pytest.mark.parametrize(("chosen", "rate"), [({}, 0.01), ({"lr": 0.05}, 0.05)])
def test_what_was_recovered_is_not_undone(
    teacher: Path, tmp_path: Path, chosen: dict[str, float], rate: float
) -> None:
    student = student_of(teacher, tmp_path / "student", "separable")
    few = RecoverySettings(pictures=60, iterations=3)
    recovered(student, teacher, tmp_path / "recovered", settings=few)
    settings = TrainingSettings(epochs=1, batch_size=64, train_images=128, **chosen)  # type: ignore[arg-type]
    said = Listening()
    run = {"teacher": teacher, "data": "digits", "settings": settings, "observer": said}
    distill(tmp_path / "recovered", output_dir=tmp_path / "out", **run)
    training = artefact.read_config(tmp_path / "out").training
    assert training["lr"] == rate
    assert any("which would undo that" in words for words in said.words) == (not chosen)
    assert any("--lr 0.05 may undo that" in words for words in said.words) == bool(chosen)
    assert "recovered" not in training  # a second run is as any other
