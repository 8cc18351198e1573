"""Training and distilling through Python: results are data, nothing is printed, no signal is taken."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import Listening, Silent

from seclcompress import artefact
from seclcompress.errors import ArtefactError, DataError, TrainingError, UsageError
from seclcompress.networks import named_spec
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.resolve import locate
from seclcompress.rewrite import rewrite_network
from seclcompress.settings.training import TrainingSettings
from seclcompress.trace import trace_network
from seclcompress.workflows.output import Output
from seclcompress.workflows.training import InterruptedRunError, TrainingResult, distill, train

SMALL = TrainingSettings(epochs=2, train_images=150, batch_size=50, lr=0.02)


def run(folder: Path, observer: Silent | None = None, **more: object) -> TrainingResult:
    options = {"settings": SMALL, **more}
    return train("wrn10_1", data="digits", output_dir=folder, observer=observer, **options)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "teacher"
    run(folder)
    return folder


@pytest.fixture(scope="module")
def student(teacher: Path) -> Path:
    source = locate(str(teacher))
    network, _ = source.load()
    options = PlanOptions(config={"depth": 2})
    plan = make_plan(network, trace_network(network, source.input_size), options)
    config = artefact.ArtefactConfig(
        network=source.network, plan=plan, input_size=source.input_size, seed=0
    )
    folder = teacher.with_name("student")
    artefact.save(folder, rewrite_network(network, plan, seed=0), config)
    return folder


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_the_result_is_data(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    observer = Listening()
    result = run(tmp_path / "out", observer, recipe="mine")
    assert result.folder == tmp_path / "out"
    lines = (result.folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history == observer.epochs
    assert result.before == {}
    config = artefact.read_config(result.folder)
    assert config.metrics == result.metrics
    assert result.metrics["accuracy"] == result.history[-1]["accuracy"]
    assert (config.training["recipe"], config.training["group_decay"]) == ("mine", {"gains": 0})
    assert config.network == named_spec("wrn10_1", 10)
    assert observer.words == [
        "Opening digits …",
        "50 images a batch × 1 accumulated × 1 process = 50 images a step; 150 training images, "
        "360 test images.",
    ]
    assert set(observer.left_out or ()) == {
        *("alpha", "temperature", "kd", "dkd_target", "dkd_others", "standardize_logits"),
        *("beta", "taps"),
    }
    assert observer.started == (2, 3, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert capfd.readouterr() == ("", "")


def test_validation_images_are_held_out(tmp_path: Path) -> None:
    settings = SMALL.model_copy(update={"validation": 0.1})
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "out", settings=settings, time_limit=0)
    with pytest.raises(TrainingError, match="validation was 0.1, not None"):
        run(tmp_path / "out", resume=True)
    observer = Listening()
    result = run(tmp_path / "out", observer, settings=settings, resume=True)
    assert "150 training images, 360 test images, 142 validation images." in " ".join(
        observer.words
    )
    last = result.history[-1]
    best = max(result.history, key=lambda record: record["validation_accuracy"])
    assert all("accuracy" not in record for record in result.history if record not in (best, last))
    for name in ("validation_accuracy", "validation_loss", "accuracy"):
        assert result.metrics[name] == last[name]
    assert result.metrics["best_epoch"] == best["epoch"]
    assert result.metrics["best_accuracy"] == best["accuracy"]
    assert artefact.read_config(result.folder).training["validation"] == 0.1


def test_patience_saves_the_best_epoch(tmp_path: Path) -> None:
    still = {"validation": 0.1, "patience": 1, "epochs": 5, "lr": 1e-12}
    settings = SMALL.model_copy(update=still)
    result = run(tmp_path / "out", settings=settings)
    assert len(result.history) == 2
    assert result.metrics["epochs"] == 2
    assert result.metrics["best_epoch"] == 1
    best = result.history[0]
    for name in ("validation_accuracy", "validation_loss", "accuracy", "test_loss"):
        assert result.metrics[name] == best[name]
    assert weights(result.folder) == (result.folder / "best.safetensors").read_bytes()
    card = " ".join((result.folder / "README.md").read_text(encoding="utf-8").split())
    assert "It was trained without a teacher (epochs: 2)." in card
    assert "The test images chose nothing: they were looked at once, at the end." in card
    assert "with the weights of the best epoch, chosen on the held-out images." in card
    with pytest.raises(UsageError, match="--patience 1: no images are held out of digits"):
        run(tmp_path / "other", settings=SMALL.model_copy(update={"patience": 1}))
    assert not list(tmp_path.glob("other*"))


def test_distilled(tmp_path: Path, teacher: Path, student: Path) -> None:
    observer = Listening()
    result = distill(
        student,
        teacher=teacher,
        data="digits",
        output_dir=tmp_path / "out",
        settings=SMALL,
        untrained_teacher=True,
        observer=observer,
    )
    assert list(result.before) == ["teacher", "before"]
    assert result.metrics["teacher_accuracy"] == result.before["teacher"]
    assert result.metrics["before_accuracy"] == result.before["before"]
    assert result.before["teacher"] == artefact.read_config(teacher).metrics["accuracy"]
    training = artefact.read_config(result.folder).training
    assert (training["teacher_folder"], training["teacher_network"]) == ("teacher", "wrn10_1")
    assert (training["teacher_weights"], training["teacher_weights_key"]) == (None, None)
    parameters = sum(parameter.numel() for parameter in artefact.load(teacher).parameters())
    assert training["teacher_parameters"] == parameters
    assert observer.left_out == ()
    assert observer.words[-2].startswith("Weight decay of the structured factors: ")
    assert artefact.read_config(result.folder).training["taps"] == ["group1", "group2", "group3"]


def test_the_folder_says_where_its_run_began(tmp_path: Path, teacher: Path, student: Path) -> None:
    def began(network: str | Path, **more: object) -> list[object]:
        settings = SMALL.model_copy(update={"epochs": 1, "train_images": 50})
        out = tmp_path / "out"
        train(network, data="digits", output_dir=out, settings=settings, overwrite=True, **more)
        training = artefact.read_config(out).training
        return [training[f"from_{key}"] for key in ("folder", "weights", "weights_key")]

    assert began("wrn10_1") == [None, None, None]
    file = teacher / "model.safetensors"
    assert began("wrn10_1", weights=str(file)) == [None, "model.safetensors", None]
    assert began(teacher) == ["teacher", None, None]
    assert began(student) == [None, None, None]  # it is made again by `convert`
    (tmp_path / "out").rename(tmp_path / "trained")
    assert began(tmp_path / "trained") == ["trained", None, None]


def test_training_does_not_take_over_what_the_teacher_knew_of_other_images(
    tmp_path: Path, teacher: Path, student: Path
) -> None:
    config = artefact.read_config(student).model_copy(update={"metrics": {"teacher_accuracy": 99}})
    artefact.save(tmp_path / "student", artefact.load(student), config)
    settings = SMALL.model_copy(update={"epochs": 1})
    result = train(
        tmp_path / "student", data="digits", output_dir=tmp_path / "out", settings=settings
    )
    assert "teacher_accuracy" not in result.metrics
    assert not artefact.read_config(tmp_path / "out").distilled


class TestStopping:
    def test_a_resumed_run_has_the_same_bytes(self, tmp_path: Path) -> None:
        run(tmp_path / "whole")
        pieces: list[Callable[[], None]] = []

        class After(Listening):
            def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
                super().step(epoch, images, loss, lr)
                if len(self.steps) == 4:
                    pieces[0]()

        def stopping(stop: Callable[[], None]) -> contextlib.nullcontext[None]:
            pieces.append(stop)
            return contextlib.nullcontext()

        with pytest.raises(InterruptedRunError, match=r"1 of 2 epochs and 1 steps are saved in"):
            run(tmp_path / "half", After(), stopping=stopping)
        assert not (tmp_path / "half").exists()
        with pytest.raises(ArtefactError, match="An interrupted run into .* is in .*half.partial"):
            run(tmp_path / "half")
        observer = Listening()
        run(tmp_path / "half", observer, resume=True)
        assert observer.words[-1] == "Going on after epoch 1, step 1."
        assert weights(tmp_path / "half") == weights(tmp_path / "whole")
        assert not (tmp_path / "half.partial").exists()

    def test_by_the_clock(self, tmp_path: Path) -> None:
        run(tmp_path / "whole")
        for steps in range(1, 4):
            with pytest.raises(InterruptedRunError, match=f"0 of 2 epochs and {steps} steps"):
                run(tmp_path / "half", time_limit=0, resume=True)
        run(tmp_path / "half", time_limit=1000, resume=True)
        assert weights(tmp_path / "half") == weights(tmp_path / "whole")

    def test_a_keyboard_interrupt_leaves_the_last_checkpoint(self, tmp_path: Path) -> None:
        run(tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "half", Silent(stop_after=5))
        assert not (tmp_path / "half").exists()
        observer = Listening()
        run(tmp_path / "half", observer, resume=True)
        assert observer.started == (2, 3, 3)
        assert weights(tmp_path / "half") == weights(tmp_path / "whole")

    def test_the_callers_signal_handlers_are_left_alone(self, tmp_path: Path) -> None:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGALRM"):
            numbers.append(signal.SIGALRM)
        before = [signal.getsignal(number) for number in numbers]
        inside: list[object] = []

        class Looking(Silent):
            def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
                inside.append([signal.getsignal(number) for number in numbers])

        settings = SMALL.model_copy(update={"epochs": 1})
        run(tmp_path / "out", Looking(), settings=settings, time_limit=1000)
        assert inside == [before] * 3
        assert [signal.getsignal(number) for number in numbers] == before


def test_errors_are_in_words(tmp_path: Path, teacher: Path, student: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match="digits has 10 classes, but wrn10_1 has 7 outputs"):
        run(out, num_classes=7)
    with pytest.raises(UsageError, match="Unknown data 'svhn'"):
        train("wrn10_1", data="svhn", output_dir=out)
    with pytest.raises(UsageError, match="--teacher wrn10_1: an untrained network teaches nothing"):
        distill(student, teacher="wrn10_1", data="digits", output_dir=out)
    strange = SMALL.model_copy(update={"device": "cuda:77"})
    with pytest.raises(UsageError, match="--device cuda:77"):
        run(out, settings=strange)
    unknown = TrainingSettings(**{**SMALL.model_dump(), "group_decay": {"scales": 0}})
    with pytest.raises(UsageError, match="--group-decay scales: no layer of this network"):
        run(out, settings=unknown)
    with pytest.raises(UsageError, match="There is no module 'layer9' to tap in the student"):
        distill(
            student,
            teacher=teacher,
            data="digits",
            output_dir=out,
            settings=TrainingSettings(epochs=1, taps=("layer9",)),
        )
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ArtefactError, match="out"):
        run(out, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_what_is_not_ours_is_left_and_said(tmp_path: Path) -> None:
    partial = tmp_path / "out.partial"
    partial.mkdir()
    (partial / "mine.txt").write_text("mine")
    observer = Listening()
    run(tmp_path / "out", observer, resume=True)
    assert "There is no checkpoint to go on from: starting from the beginning." in observer.words
    assert observer.words[-1].startswith(f"Left in {partial}, as seclcompress did not write it:")
    assert (partial / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("folder", "partial"),
    [("out", "out.partial"), ("a/out.old", "a/out.old.partial"), (".", None), ("..", None)],
)
def test_a_run_works_beside_its_output(
    folder: str, partial: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = Output(Path(folder)).partial
    if partial is not None:
        assert found == Path(partial)
    else:
        assert found.is_absolute()
        assert found.name.endswith(".partial")
