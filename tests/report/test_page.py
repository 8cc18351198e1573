"""A page about saved folders: what is known, what is missing, and nothing of a stranger's runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import EVIL, QUOTED, Reader, write_folder

from seclcompress.bench import Measured
from seclcompress.cli import app
from seclcompress.cli.settings import make_settings
from seclcompress.report.page import Facts, Timed, headline, page_html, pictures
from seclcompress.report.page.commands import read_settings, steps
from seclcompress.report.page.drawing import amount
from seclcompress.report.page.sections import class_bars, confusions, in_bytes, worst_confusions
from seclcompress.report.page.words import times
from seclcompress.settings.training import TrainingSettings
from seclcompress.timing import Timing
from seclcompress.train import Answers, Epoch, Evaluation
from seclcompress.workflows import report


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    folder = write_folder(tmp_path_factory.mktemp("page") / "small")
    (made,) = report([folder], folder.parent / "page.html").facts
    return replace(made, folder="small")


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch: pytest.MonkeyPatch, bars: dict[Any, Any]) -> None:
    """Bars of the same rows are drawn once for all tests: most tests are about other parts of a page."""

    def once(rows: Sequence[Any], *about: Any, converted: bool) -> str | None:
        key = (id(rows), *about, converted)
        if key not in bars:
            bars[key] = rows, draw(rows, *about, converted=converted)
        picture: str | None = bars[key][1]
        return picture

    draw = pictures.layers_svg
    monkeypatch.setattr(pictures, "layers_svg", once)


@pytest.fixture(scope="module")
def bars() -> dict[Any, Any]:
    return {}


def words(*folders: Facts) -> str:
    return Reader(page_html(folders, "1.2.3")).words


def evaluated(facts: Facts, answers: Answers) -> Facts:
    evaluation = Evaluation(75.0, None, 0.5, sum(answers.counts.values()), answers)
    return replace(facts, data="digits", evaluation=evaluation)


def test_the_sentence_that_a_person_would_repeat(facts: Facts) -> None:
    before, after = facts.before.parameters, facts.after.parameters
    assert headline(facts) == (
        f"wrn10_1 became {before / after:.1f} times smaller: {after:,} parameters instead of "
        f"{before:,}, for a loss of 2.50 points of accuracy on digits: 90.25 % instead of 92.75 %."
    )

    def with_metrics(**metrics: float) -> str:
        return headline(replace(facts, config=facts.config.model_copy(update={"metrics": metrics})))

    assert "a gain of 1.00 points" in with_metrics(accuracy=91, teacher_accuracy=90)
    assert "without a loss of accuracy on digits: 90.00 % as before" in with_metrics(
        accuracy=90, teacher_accuracy=90.001
    )
    training = {**facts.config.training, "test_images": 12}
    few = replace(facts, config=facts.config.model_copy(update={"training": training}))
    assert headline(few).endswith("92.75 % (12 test images; one of them is 8.3 points).")
    equal = few.config.model_copy(update={"metrics": {"accuracy": 90, "teacher_accuracy": 90}})
    words = headline(replace(few, config=equal))
    assert "as accurate as before: 90.00 % (12 test images; one of them is 8.3 points)" in words
    assert "without a loss" not in words
    assert with_metrics(accuracy=91).endswith(
        "It names 91.00 % of the test images of digits right."
    )
    assert with_metrics().endswith("What that costs in accuracy is not measured yet.")
    # What a stranger's file claims must be a percentage.
    assert with_metrics(accuracy=float("inf"), teacher_accuracy=1e300) == with_metrics()
    plain = headline(replace(facts, converted=False))
    assert plain.startswith(f"wrn10_1 has {before:,} parameters and names 90.25 %")


def test_only_a_distillation_has_measured_its_teacher_on_the_same_images(facts: Facts) -> None:
    """`convert` knows the original's accuracy on some images, and a later `train` takes others."""
    training = {k: v for k, v in facts.config.training.items() if k != "alpha"}
    config = facts.config.model_copy(update={"training": {**training, "data": "cifar10"}})
    trained = replace(facts, config=config)
    assert headline(trained).endswith("It names 90.25 % of the test images of cifar10 right.")
    shown = page_html([trained, trained], "1")
    assert "92.75" in page_html([facts, facts], "1")
    assert "92.75" not in shown
    for of_a_teacher in ("training, all losses", "student before"):
        assert of_a_teacher in words(facts)
        assert of_a_teacher not in words(trained)
    assert "-2.50" not in shown.replace("\N{MINUS SIGN}", "-")
    # Converted and then evaluated for the page, perhaps on other images.
    config = facts.config.model_copy(
        update={"training": {}, "metrics": {"teacher_accuracy": 92.75}}
    )
    looked = replace(facts, config=config, history=(), data="cifar10")
    looked = replace(looked, evaluation=Evaluation(75.0, None, 0.5, 4, None))
    assert "92.75" not in page_html([looked, looked], "1")


def test_what_a_folder_has_is_on_the_page(facts: Facts) -> None:
    shown = words(facts)
    for figure in (facts.before, facts.after):
        assert f"{figure.parameters:,}" in shown
        assert f"{figure.mult_adds:,}" in shown
    for row in facts.count.rows:
        assert row.reason in shown
        assert row.name in shown
    for expected in (
        "plain separable",
        "rewritten, runs dense",
        "loss (logarithmic)",
        "teacher 92.75 %",
        "best epoch (2; chosen on the test images) 91.50 %",
        "3 min 00 s",
        "model.safetensors safetensors float32",
        "−2.50 points",
        "Written by seclcompress 1.2.3",
        f"torch {facts.config.versions['torch']}",
        "seclcompress distill student --teacher TEACHER --data digits",
    ):
        assert expected in shown
    size = next(file.size for file in facts.files if file.name == "model.safetensors")
    assert f"{size:,}" in shown


def test_the_best_epoch_is_chosen_on_the_validation_images(facts: Facts) -> None:
    held = [
        epoch.model_copy(update={"validation_accuracy": 90.0 - epoch.epoch})
        for epoch in facts.history
    ]
    first = f"{held[0].accuracy:.2f} %"
    assert facts.history[0].accuracy < facts.history[1].accuracy
    assert f"best epoch (1; chosen on the validation images) {first}" in words(
        replace(facts, history=held)
    )


def test_test_images_that_were_looked_at_at_the_end(facts: Facts) -> None:
    held = [
        epoch.model_copy(
            update={
                "validation_accuracy": 70.0 + epoch.epoch,
                "validation_loss": 0.5,
                "accuracy": epoch.accuracy if epoch is facts.history[-1] else None,
                "test_loss": None,
            }
        )
        for epoch in facts.history
    ]
    shown = words(replace(facts, history=held))
    assert "best epoch (3; chosen on the validation images) 90.25 %" in shown
    assert "its accuracy on the validation images 73.00 %" in shown
    assert "validation test teacher" in shown  # the legend of the accuracies
    none = [epoch.model_copy(update={"accuracy": None}) for epoch in held]
    assert "after the last epoch –" in words(replace(facts, history=none))


def test_what_is_missing_is_said_with_the_way_to_get_it(facts: Facts) -> None:
    shown = words(facts)
    assert "seclcompress report small --data digits -o report.html evaluates" in shown
    assert "--bench times the network" in shown
    bare = facts.config.model_copy(update={"training": {}, "metrics": {}, "versions": {}})
    shown = words(replace(facts, history=(), config=bare))
    assert "seclcompress distill writes a folder with them" in shown
    assert "There was no training run" in shown
    assert "--data NAME -o report.html" in shown
    assert "seclcompress convert wrn10_1 --num-classes 10 --input-size 3x16x16" in shown
    bare = replace(facts, history=(), config=bare, converted=False)
    assert "What a conversion would give" in words(bare)
    assert "neither trained nor rewritten" in words(bare)


def test_accuracy_and_confusion_by_class(facts: Facts) -> None:
    answers = Answers(("cat", "dog", "eel"), {(0, 0): 3, (0, 1): 1, (1, 1): 2, (1, 0): 2})
    assert [(bar.name, bar.percent) for bar in class_bars(answers)] == [("cat", 75), ("dog", 50)]
    rows = confusions(answers)
    assert rows is not None
    assert [[cell.number for cell in cells] for _, cells in rows] == [[3, 1, 0], [2, 2, 0], [0] * 3]
    assert worst_confusions(answers) == [("dog", "cat", 2), ("cat", "dog", 1)]
    shown = words(evaluated(facts, answers))
    assert "On the 8 test images of digits, evaluated for this page: 75.00 % right" in shown
    assert "cat 75.0 % (3 of 4)" in shown
    assert "dog taken for cat (×2); cat taken for dog (×1)." in shown
    perfect = Answers(("cat", "dog"), {(0, 0): 3})
    assert "No test image was taken for another class." in words(evaluated(facts, perfect))


def test_of_many_classes_the_worst_are_shown(facts: Facts) -> None:
    counts = {(n, n): n + 1 for n in range(100)} | {(n, 0): 1 for n in range(1, 100)}
    answers = Answers(tuple(f"class {n}" for n in range(100)), counts)
    assert confusions(answers) is None
    bars = class_bars(answers)
    assert [bar.name for bar in bars[:2]] == ["class 1", "class 2"]
    assert "The 30 least accurate of 100 classes" in words(evaluated(facts, answers))


def test_times(facts: Facts) -> None:
    slow, fast = Timing(0.010, 0.001), Timing(0.004, 0.0001)
    measured = {
        "original": Measured(slow, "NCHW", slow, 4_000_000, None),
        "auto": Measured(fast, "NHWC", slow, 80_000, None),
    }
    shown = words(replace(facts, timed=Timed("a good machine", facts.plan, measured)))
    assert "a good machine. One image at a time" in shown
    assert "10.00 ± 5 % 1.00 NCHW 4.00 MB" in shown
    assert "4.00 ± 1 % 2.50 NHWC 80.00 kB" in shown


def test_several_folders_are_compared(facts: Facts) -> None:
    other = replace(facts, folder="other", converted=False)
    unknown = replace(facts, config=facts.config.model_copy(update={"metrics": {}}))
    page = page_html([facts, other, unknown], "1")
    shown = Reader(page)
    assert "3 networks side by side" in shown.words
    assert "Accuracy over parameters of 2 folders" in shown.values("aria-label")
    assert "the teacher of small, which does not name it; at the parameters of the" in shown.words
    assert shown.words.count("How to reproduce") == 3
    assert "different data sets" not in shown.words
    elsewhere = facts.config.model_copy(update={"training": {"data": "cifar10"}})
    assert "different data sets" in words(facts, replace(facts, config=elsewhere))
    assert "No accuracy is known" in words(unknown, unknown)


def taught(facts: Facts, **by: object) -> Facts:
    training = {**facts.config.training, "teacher_network": "wrn10_1", "teacher_folder": None, **by}
    return replace(facts, config=facts.config.model_copy(update={"training": training}))


def test_the_teacher_has_its_own_name(facts: Facts) -> None:
    """Whoever taught is not the original: it may be a larger network."""
    another = taught(
        facts,
        teacher_network="resnet18",
        teacher_folder="large",
        teacher_weights="best.safetensors",
        teacher_weights_key=None,
        teacher_parameters=11_000_000,
    )
    assert headline(another).endswith(
        ". It names 90.25 % of the test images of digits right, and its teacher, large, 92.75 %."
    )
    shown = words(another, taught(facts, teacher_folder="guide"))
    assert "large, the teacher of small 11,000,000 parameters, 92.75 %" in shown
    before = facts.before.parameters
    assert f"guide, the teacher of small {before:,} parameters, 92.75 %" in shown
    for expected in (
        "92.75 % (large)",
        "92.75 % (guide)",
        "its teacher: 92.75 %",
        "teacher (large)",
    ):
        assert expected in shown
    assert "the original" not in shown.partition("How to reproduce")[0].partition("Filled")[0]
    (command,) = (s for s in steps(another) if " distill " in s.command)
    assert "--teacher=./large --teacher-weights=best.safetensors --data" in command.command
    assert "It learnt from large; put the path before the name" in command.why
    (command,) = (s for s in steps(taught(facts)) if " distill " in s.command)
    assert "--teacher=wrn10_1 --data" in command.command
    # Like the original, it is what the student is compared with.
    for like in (taught(facts), taught(facts, teacher_parameters=before), facts):
        assert "for a loss of 2.50 points" in headline(like)
    for unlike in (
        taught(facts, teacher_parameters=before - 1),
        taught(facts, teacher_network="x"),
    ):
        assert "its teacher" in headline(unlike)
    # A stranger's values, and those of a run without a teacher, are none.
    assert taught(facts, teacher_parameters="1", teacher_folder=[1]).teacher_parameters is None
    alone = {k: v for k, v in another.config.training.items() if k != "alpha"}
    config = another.config.model_copy(update={"training": alone})
    assert replace(another, config=config).teacher is None


def hostile(facts: Facts) -> Facts:
    """Strange names wherever a folder can hold some."""
    rows = [
        replace(row, name=f"{EVIL}.{n}", layer=QUOTED, reason=EVIL + "\u202e$x$ &amp; ]]>")
        for n, row in enumerate(facts.count.rows)
    ]
    network = facts.config.network.model_copy(update={"name": EVIL})
    training = {
        **facts.config.training,
        EVIL: QUOTED,
        "data": QUOTED,
        "lr": [{EVIL: 1}],
        "x": {"a": "b"},
        "teacher_folder": EVIL,
        "teacher_network": QUOTED,
        "teacher_weights": EVIL,
        "teacher_parameters": 10**400,
    }
    config = facts.config.model_copy(
        update={
            "network": network,
            "training": training,
            "versions": {EVIL: QUOTED},
            "metrics": {"accuracy": 50.0, "teacher_accuracy": 60.0, EVIL: 1.0},
        }
    )
    files = [replace(file, name=EVIL, values={QUOTED: 3}) for file in facts.files]
    made = replace(
        facts,
        folder=f"a b'{EVIL}\n",
        config=config,
        count=replace(facts.count, rows=rows),
        files=files,
        timed=Timed(QUOTED, facts.plan, {EVIL: MEASURED, "original": MEASURED}),
    )
    return evaluated(made, Answers((EVIL, QUOTED), {(0, 1): 1, (1, 1): 1}))


MEASURED = Measured(Timing(0.01, 0.001), QUOTED, Timing(0.02, 0.001), 1, None)


def test_nothing_of_a_stranger_becomes_part_of_the_page(facts: Facts) -> None:
    strange = hostile(facts)
    page = page_html([strange, strange], "1")
    read, harmless = Reader(page), Reader(page_html([facts, facts], "1"))
    classes = {"ul", "li", "h4"}  # the harmless page has no evaluation
    assert set(read.tags) - set(harmless.tags) <= classes
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(read.tags)
    assert not [key for key, _ in read.attributes if key.startswith("on") or key == "src"]
    assert all(value.startswith("#") for value in read.values("href"))
    assert "default-src 'none'; style-src 'unsafe-inline'" in read.values("content")
    assert EVIL in read.words  # shown as text
    assert "\u202e" not in page
    for step in steps(strange):
        assert shlex.split(step.command)[0] in ("python", "seclcompress")
    made = shlex.split(steps(strange)[0].command)
    assert made[3:] == [f"a b'{EVIL}\n/config.json", ">", "plan.json"]


def test_ids_are_unique_and_references_find_theirs(facts: Facts) -> None:
    page = page_html([facts, facts], "1")
    read = Reader(page)
    ids = read.values("id")
    assert len(ids) == len(set(ids)) > 50
    assert {value[1:] for value in read.values("href")} <= set(ids)
    for value in read.values("clip-path"):
        assert value[5:-1] in ids
    assert "#0102" not in page  # every marker colour became one of the page's


def test_equal_figures_give_equal_bytes(facts: Facts, bars: dict[Any, Any]) -> None:
    bars.clear()
    first = page_html([facts], "1")
    bars.clear()  # drawn again
    assert page_html([facts], "1") == first


def test_losses_that_no_logarithm_takes(facts: Facts) -> None:
    odd = [
        Epoch(epoch=n + 1, train_loss=loss, test_loss=0, accuracy=0)
        for n, loss in enumerate([float("nan"), float("inf"), -1.0, 0.0])
    ]
    assert "loss (logarithmic)" in words(replace(facts, history=odd))
    assert "loss (logarithmic)" in words(replace(facts, history=odd[:1]))


@pytest.mark.parametrize("taught", [True, False])
def test_the_commands_have_the_settings_of_the_run(
    tmp_path: Path, taught: bool, facts: Facts
) -> None:
    training = dict(facts.config.training)
    if not taught:
        for key in ("alpha", "temperature", "beta", "taps"):
            del training[key]
    mine = replace(facts, config=facts.config.model_copy(update={"training": training}))
    settings = read_settings(mine)
    assert settings is not None
    assert settings.lr == 0.0123456789
    [step] = [s for s in steps(mine) if "lr" in s.command]
    program, command, *arguments = shlex.split(step.command)
    assert (program, command) == ("seclcompress", "distill" if taught else "train")
    known = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    parsed = known.make_context(command, arguments).params
    fields = TrainingSettings.model_fields
    given = {k: v for k, v in parsed.items() if k in fields and v is not None}
    again = make_settings(None, given)
    assert again == settings


def test_a_run_in_several_processes_is_started_in_as_many(facts: Facts) -> None:
    for processes, begins in ((2, "torchrun --nproc-per-node 2 -m"), (10**9, "seclcompress")):
        training = {**facts.config.training, "processes": processes}
        mine = replace(facts, config=facts.config.model_copy(update={"training": training}))
        assert steps(mine)[2].command.startswith(begins)


def test_the_commands_begin_where_the_run_began(facts: Facts) -> None:
    def train(converted: bool, **began: object) -> tuple[list[str], str, int]:
        training = {k: v for k, v in facts.config.training.items() if k != "alpha"} | began
        config = facts.config.model_copy(update={"training": training})
        made = steps(replace(facts, converted=converted, config=config))
        step = next(s for s in made if " train " in s.command)
        return shlex.split(step.command)[2:6], step.why, made.index(step)

    size = ["--input-size", "3x16x16"]
    scratch = {"from_folder": None, "from_weights": None, "from_weights_key": None}
    words, why, place = train(False)  # of a version that did not note it
    assert (words[:3], place) == (["wrn10_1", *size], 0)
    assert "if it began from trained weights, name them (--weights, or the folder" in why
    words, why, _ = train(False, **scratch)
    assert (words[:3], "began" in why) == (["wrn10_1", *size], False)
    assert train(True, **scratch)[2] == 2  # after the conversion
    words, why, place = train(True, **{**scratch, "from_folder": "--overwrite"})
    assert (words[:3], place) == (["./--overwrite", *size], 0)
    assert "The run began from the folder --overwrite; put the path before the name." in why
    words, why, _ = train(False, **{**scratch, "from_weights": "a b.pth"})
    assert words == ["wrn10_1", *size, "--weights=a b.pth"]
    assert "The run began from the weights a b.pth" in why
    assert train(False, **{**scratch, "from_folder": [1]})[0][0] == "wrn10_1"  # a stranger's


def test_numbers_in_few_characters() -> None:
    assert [amount(x) for x in (2, 0.5, 1500, 20_000, 3e6, 4e9, 5e12)] == (
        ["2", "0.5", "1.5K", "20K", "3M", "4G", "5T"]
    )
    assert [in_bytes(n) for n in (999, 1000, 2_500_000, 3 * 10**9)] == (
        ["999 B", "1.00 kB", "2.50 MB", "3.00 GB"]
    )
    assert [times(*pair) for pair in ((100, 8), (0, 3), (3, 0), (12345, 1))] == (
        ["12.5", "–", "–", "12,345.0"]
    )
