"""Weights of all sorts through the workflows and the command line: what is told, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Invoke
from listening import Listening

from seclcompress import artefact, networks
from seclcompress.errors import UsageError, WeightsError
from seclcompress.settings import PlanOptions, TrainingSettings
from seclcompress.workflows import convert
from seclcompress.workflows.evaluating import evaluate
from seclcompress.workflows.training import distill, train

SHALLOW = PlanOptions(config={"depth": 2})
BRIEF = TrainingSettings(epochs=1, train_images=20, batch_size=10)


def state(seed: int, num_classes: int = 10) -> dict[str, torch.Tensor]:
    spec = networks.named_spec("wrn10_1", num_classes)
    return networks.build_untrained(spec, seed=seed).state_dict()


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    """A checkpoint with weights and their average."""
    path = tmp_path / "last.ckpt"
    torch.save({"model": state(1), "model_ema": state(2), "epoch": 3}, path)
    return str(path)


def is_of(folder: Path | str, seed: int) -> bool:
    return torch.equal(
        artefact.load(folder).state_dict()["conv1.weight"], state(seed)["conv1.weight"]
    )


TAKEN = (
    "{}: the weights under 'model' were taken; averaged weights are there too, for {} model_ema."
)
AVERAGED = "{}: the weights under 'model_ema', which is averaged over training, were taken."


class TestConvert:
    def test_what_was_taken_is_told_before_the_plan(self, tmp_path: Path, checkpoint: str) -> None:
        told = Listening()
        before: list[int] = []
        told.decided = lambda *decided: before.append(len(told.messages))  # type: ignore[method-assign]
        convert("wrn10_1", tmp_path / "out", options=SHALLOW, weights=checkpoint, observer=told)
        assert told.messages[0] == TAKEN.format(checkpoint, "--weights-key")
        assert before == [1]
        assert is_of(tmp_path / "out", 1)

    def test_the_other(self, tmp_path: Path, checkpoint: str) -> None:
        told = Listening()
        done = {"weights": checkpoint, "weights_key": "model_ema", "observer": told}
        convert("wrn10_1", tmp_path / "out", options=SHALLOW, **done)  # type: ignore[arg-type]
        assert told.messages[0] == AVERAGED.format(checkpoint)
        assert is_of(tmp_path / "out", 2)

    def test_by_the_command_line(self, invoke: Invoke, checkpoint: str) -> None:
        command = ["convert", "wrn10_1", "--depth", 2, "--weights", checkpoint, "-o"]
        words = invoke(*command, "out").stderr
        assert TAKEN.format(checkpoint, "--weights-key") in words
        words = invoke(*command, "other", "--weights-key", "model_ema").stderr
        assert AVERAGED.format(checkpoint) in words
        assert is_of("out", 1)
        assert is_of("other", 2)

    @pytest.mark.parametrize("output", [["-o", "out"], ["--dry-run"]])
    def test_weights_that_do_not_load_are_said_before_a_plan(
        self, invoke: Invoke, output: list[str]
    ) -> None:
        torch.save({"fc.bias": torch.zeros(10)}, "bad.th")
        result = invoke("convert", "wrn10_1", "--weights", "bad.th", *output, code=1)
        assert "bad.th does not fit the network: missing conv1.weight" in result.stderr
        assert result.stdout == ""
        assert not Path("out").exists()

    def test_a_plan_alone_downloads_nothing(self, invoke: Invoke) -> None:
        invoke("convert", "mobilenet_v3_small", "--weights", "DEFAULT", "--dry-run")

    def test_another_number_of_classes(self, invoke: Invoke, tmp_path: Path) -> None:
        torch.save(state(1, 1000), "thousand.bin")
        command = ["convert", "wrn10_1", "--depth", 2, "--weights", "thousand.bin", "-o", "out"]
        words = invoke(*command, code=1).stderr
        assert "Only the number of classes differs: --num-classes 1000 takes all of it" in words
        words = invoke(*command, "--num-classes", 7).stderr
        assert "thousand.bin: fresh, for another number of classes: fc.weight, fc.bias." in words
        saved, read = artefact.load("out").state_dict(), state(1, 1000)
        assert torch.equal(saved["conv1.weight"], read["conv1.weight"])
        told = Listening()
        given = {"weights": "thousand.bin", "num_classes": 7, "observer": told}
        done = convert("wrn10_1", "other", options=SHALLOW, **given)  # type: ignore[arg-type]
        assert done.untrained == ("fc.weight", "fc.bias")


class TestMessages:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ({"w": torch.ones(2, dtype=torch.float8_e5m2)}, "does not fit the network"),
            (state(1) | {"fc.bias": torch.ones(10).bool()}, "fc.bias holds bool, and the network's is"),
            (state(1) | {"fc.bias": torch.ones(10).to_sparse()}, "fc.bias has the layout sparse_coo"),
            (state(1) | {"fc.bias": torch.ones(10).to("meta")}, "fc.bias is on the meta device"),
            (
                state(1) | {"fc.bias": torch.full((10,), 2.0**140, dtype=torch.float64)},
                "NaN or infinite as float32, which the file's float64 became: fc.bias (10 of 10)",
            ),
            (networks.build(networks.named_spec("wrn10_1")), "holds an object made by seclcompress."),
        ],
    )  # fmt: skip
    def test_each_ends_in_words(self, invoke: Invoke, content: Any, words: str) -> None:
        torch.save(content, "w.pth")
        found = invoke("convert", "wrn10_1", "--weights", "w.pth", "-o", "out", code=1).stderr
        assert words in " ".join(found.split())
        assert "Internal error" not in found

    def test_what_is_cast_is_said(self, invoke: Invoke) -> None:
        torch.save({k: v.double() for k, v in state(1).items()}, "w.pth")
        found = invoke("convert", "wrn10_1", "--weights", "w.pth", "-o", "out").stderr
        assert "w.pth: float64 became float32, rounded; float64 became int64." in found

    def test_a_key_without_a_file(self, invoke: Invoke) -> None:
        words = "--weights-key x names a place in a checkpoint, so it needs a file with --weights."
        for weights in ([], ["--weights", "DEFAULT"]):
            found = invoke(
                "convert", "resnet18", "-o", "out", *weights, "--weights-key", "x", code=2
            )
            assert words in found.stderr
        with pytest.raises(UsageError, match=words):
            convert("resnet18", weights_key="x")

    def test_a_missing_file_is_said_before_any_work(self, invoke: Invoke) -> None:
        """Neither data are opened nor a network is built."""
        command = ["--weights", "no.th", "--data", "no such data"]
        for first in (["evaluate", "wrn10_1"], ["train", "wrn10_1", "-o", "out"]):
            words = invoke(*first, *command, code=1).stderr
            assert "There is no weights file no.th" in words

    def test_neither_a_file_nor_published(self, invoke: Invoke) -> None:
        words = invoke("convert", "resnet18", "-o", "out", "--weights", "best", code=1).stderr
        assert (
            "There is no file best, and resnet18 has no weights 'best'. torchvision has:" in words
        )


class TestTraining:
    def test_train_and_evaluate(self, tmp_path: Path, checkpoint: str) -> None:
        told = Listening()
        given = {"data": "digits", "weights": checkpoint, "weights_key": "model_ema"}
        train("wrn10_1", **given, output_dir=tmp_path / "out", settings=BRIEF, observer=told)  # type: ignore[arg-type]
        assert AVERAGED.format(checkpoint) in told.messages
        told = Listening()
        evaluate("wrn10_1", data="digits", weights=checkpoint, observer=told)
        assert TAKEN.format(checkpoint, "--weights-key") in told.messages

    def test_train_with_other_classes(self, tmp_path: Path) -> None:
        """The number of classes comes from the data."""
        torch.save({"state_dict": state(1, 1000)}, tmp_path / "w")
        told = Listening()
        weights = str(tmp_path / "w")
        out = tmp_path / "out"
        train(
            "wrn10_1", data="digits", weights=weights, output_dir=out, settings=BRIEF, observer=told
        )
        assert any("fresh, for another number of classes: fc.weight" in m for m in told.messages)

    def test_a_teacher(self, tmp_path: Path, checkpoint: str) -> None:
        convert("wrn10_1", tmp_path / "student", options=SHALLOW)
        told = Listening()
        distill(
            tmp_path / "student",
            teacher="wrn10_1",
            teacher_weights=checkpoint,
            data="digits",
            output_dir=tmp_path / "out",
            settings=BRIEF,
            untrained_teacher=True,
            observer=told,
        )
        assert TAKEN.format(checkpoint, "--teacher-weights-key") in told.messages

    def test_a_teacher_by_the_command_line(self, invoke: Invoke, checkpoint: str) -> None:
        torch.save({"student": state(1), "teacher": state(2)}, "both.pth")
        invoke("convert", "wrn10_1", "--depth", 2, "-o", "student")
        command = ["distill", "student", "--teacher", "wrn10_1", "--data", "digits", "-o", "out"]
        command += ["--epochs", "1", "--train-images", "20", "--teacher-weights", "both.pth"]
        words = invoke(*command, code=1).stderr
        assert "under 'student', 'teacher'. Name one with --teacher-weights-key." in words
        invoke(*command, "--teacher-weights-key", "teacher", "--untrained-teacher")

    def test_a_teacher_with_other_classes_is_refused(self, tmp_path: Path) -> None:
        convert("wrn10_1", tmp_path / "student", options=SHALLOW)
        torch.save(state(1, 1000), tmp_path / "w")
        with pytest.raises(UsageError, match="are untrained, for another number of classes"):
            distill(
                tmp_path / "student",
                teacher="wrn10_1",
                teacher_weights=str(tmp_path / "w"),
                data="digits",
                output_dir=tmp_path / "out",
                settings=BRIEF,
            )


def test_weights_into_a_folder_that_was_saved(tmp_path: Path, checkpoint: str) -> None:
    spec = networks.named_spec("wrn10_1")
    about = artefact.ArtefactConfig(network=spec, input_size=(3, 32, 32))
    artefact.save(tmp_path / "net", networks.build(spec), about)
    done = {"weights": checkpoint, "weights_key": "model_ema"}
    convert(tmp_path / "net", tmp_path / "out", options=SHALLOW, **done)  # type: ignore[arg-type]
    assert is_of(tmp_path / "out", 2)
    with pytest.raises(WeightsError, match="has no weights under --weights-key best"):
        convert(tmp_path / "net", options=SHALLOW, weights=checkpoint, weights_key="best")
