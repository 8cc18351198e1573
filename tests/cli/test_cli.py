"""The command line: exit codes and messages."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import Invoke

from seclcompress import artefact, kernel
from seclcompress.files import check_free

DEPTH = ("--option", "depth=2")
AWKWARD = ("conftest:awkward", "--input-size", "16", *DEPTH)


class TestCount:
    def test_the_five_columns_of_the_reference(self, invoke: Invoke) -> None:
        out = invoke("count", "wrn40_2", "--keep", "*.shortcut").stdout
        for figure in (
            "2,243,546",
            "288,362",
            "105,578",
            "327,599,360",
            "271,013,120",
            "44,127,488",
        ):
            assert figure in out
        for heading in ("original", "plain", "separable", "dense", "fast", "chosen", "3×32×32"):
            assert heading in out
        assert "Mult-Adds (MACs)" in out
        assert "36 of 40 convolutions rewritten" in out

    @pytest.mark.parametrize("columns", ["40", "80", "200"])
    def test_no_figure_is_cut_at_any_width(self, invoke: Invoke, monkeypatch, columns: str) -> None:
        monkeypatch.setenv("COLUMNS", columns)
        out = invoke("count", "wrn40_2", "--keep", "*.shortcut", "--per-layer").stdout
        assert "327,599,360" in out
        assert "…" not in out
        assert max(len(line.rstrip()) for line in out.splitlines()) <= int(columns)
        assert "group1.0.conv2" in out

    def test_json_and_csv_say_the_same(self, invoke: Invoke) -> None:
        content = json.loads(invoke("count", *AWKWARD, "--json").stdout)
        assert content["network"] == "conftest:awkward"
        assert list(content["columns"]) == ["original", "separable", "dense", "fast", "auto"]
        rows = list(csv.DictReader(io.StringIO(invoke("count", *AWKWARD, "--csv").stdout)))
        assert rows[-1]["name"] == "total"
        for column, totals in content["columns"].items():
            for quantity, value in totals.items():
                assert int(rows[-1][f"{column}_{quantity}"]) == value
                assert sum(int(row[f"{column}_{quantity}"]) for row in rows[:-1]) == value
        assert {row["name"] for row in content["rows"]} == {row["name"] for row in rows[:-1]}

    def test_what_nobody_counts_is_in_the_json(self, invoke: Invoke) -> None:
        content = json.loads(invoke("count", *AWKWARD, "--json").stdout)
        assert content["uncounted"]["relu"] == 2
        assert content["unknown"] == {}

    def test_verified_by_fvcore(self, invoke: Invoke) -> None:
        result = invoke("count", *AWKWARD, "--verify")
        assert "fvcore agrees on 'original'" in result.stderr
        assert "fvcore agrees on 'dense'" in result.stderr

    def test_options_that_equal_the_defaults_count_as_given(self, invoke: Invoke) -> None:
        invoke("convert", "wrn10_1", "--substitution", "separable", "-o", "out")
        saved = invoke("count", "out").stdout
        asked = invoke("count", "out", "--substitution", "acdc").stdout
        assert "SECL" not in saved
        assert "SECL" in asked

    def test_a_network_that_keeps_everything_is_still_counted(self, invoke: Invoke) -> None:
        out = " ".join(invoke("count", "vit_b_16").stdout.split())
        assert "17,563,828,224" in out
        assert "None of 1 convolutions would be rewritten: the stem" in out

    def test_a_network_and_a_saved_folder_of_one_name(self, invoke: Invoke) -> None:
        invoke("convert", "wrn16_1", "--depth", 1, "-o", "wrn16_1")
        assert "Say ./wrn16_1 for the folder" in invoke("count", "wrn16_1", code=2).stderr
        assert "convolutions rewritten" in invoke("count", "./wrn16_1").stdout

    def test_a_folder_does_not_hide_a_network(self, invoke: Invoke) -> None:
        Path("resnet18").mkdir()
        assert "11,689,512" in invoke("count", "resnet18").stdout

    def test_what_if(self, invoke: Invoke) -> None:
        for flags, figure in [
            (("--depth", 11), "100,202"),
            (("--depth", 1), "46,442"),
            (("--substitution", "separable"), "288,362"),
        ]:
            assert figure in invoke("count", "wrn40_2", "--keep", "*.shortcut", *flags).stdout


class TestOtherTasks:
    def test_a_segmentation_network_is_converted_counted_and_timed(self, invoke: Invoke) -> None:
        named = ("lraspp_mobilenet_v3_large", "--input-size", 64, "--depth", 4)
        invoke("convert", *named, "--num-classes", 5, "-o", "out")
        saved = artefact.read_config(Path("out"))
        assert saved.network.num_classes == 5
        out = json.loads(invoke("count", "out", "--json").stdout)
        network = artefact.load(Path("out"))
        mine = sum(parameter.numel() for parameter in network.parameters())
        assert out["columns"]["auto"]["parameters"] == mine
        with torch.no_grad():
            assert network(torch.zeros(1, 3, 64, 64))["out"].shape == (1, 5, 64, 64)
        timed = invoke("bench", *named, "--rounds", 3, "--threads", 1, "--cost-model", "paper")
        assert "ms a batch" in timed.stdout

    def test_a_detector_says_what_was_assumed(self, invoke: Invoke) -> None:
        out = " ".join(invoke("count", "ssdlite320_mobilenet_v3_large").stdout.split())
        assert "input 3×320×320" in out
        assert "taken at their largest" in out
        assert "nms (×1)" in out
        words = invoke("count", "ssdlite320_mobilenet_v3_large", "--verify", code=1).stderr
        assert "leave --verify out" in words

    def test_clips_are_counted_and_timed(self, invoke: Invoke) -> None:
        clip = ("r3d_18", "--input-size", "3x4x16x16", "--depth", 1)
        assert "19 of 20 convolutions rewritten" in invoke("count", *clip).stdout
        timed = invoke("bench", *clip, "--rounds", 3, "--threads", 1, "--cost-model", "paper")
        assert "DHW" in timed.stdout

    def test_linear_layers(self, invoke: Invoke) -> None:
        out = invoke("count", "vgg16", "--linear").stdout
        assert "4,944,808" in out
        assert "14 of 16 layers rewritten" in out
        words = invoke("count", "vgg16", "--linear", "--keep", "fc", code=1).stderr
        assert "matches none of the 16 layers" in words


class TestListings:
    def test_networks(self, invoke: Invoke) -> None:
        names = invoke("networks").stdout.split()
        assert len(names) >= 83
        assert {"resnet18", "wrn40_2"} <= set(names)
        assert invoke("networks", "resnet*[0-9]").stdout.split() == [
            f"resnet{n}" for n in (101, 152, 18, 34, 50)
        ]
        assert "None of the" in invoke("networks", "qq*", code=1).stderr

    def test_substitutions(self, invoke: Invoke) -> None:
        out = invoke("substitutions").stdout
        assert "acdc" in out
        assert "separable" in out
        assert "--option depth=int" in out
        assert "--option init=signs|paper" in out

    def test_recipes(self, invoke: Invoke) -> None:
        out = invoke("recipes").stdout
        for words in (
            "secl-imagenet",
            "lr_scheduler = 'step'",
            "flip = true",
            "The paper's recipe",
        ):
            assert words in out

    def test_version_and_help(self, invoke: Invoke) -> None:
        version = invoke("--version").stdout
        assert version.startswith("seclcompress 0.")
        assert f"torch {torch.__version__.partition('+')[0]}" in version
        assert kernel.description() in version
        for command in (
            "count",
            "train",
            "convert",
            "distill",
            "evaluate",
            "bench",
            "survey",
            "networks",
        ):
            assert command in invoke("--help").stdout
            assert "Usage" in invoke(command, "--help").stdout


class TestConvert:
    def test_the_same_seed_gives_the_same_folder(self, invoke: Invoke, tmp_path: Path) -> None:
        out = invoke("convert", *AWKWARD, "-o", "one", "--write-plan", "plan.json").stdout
        assert "the stem (the first convolution)" in out
        invoke("convert", *AWKWARD, "-o", "two")
        invoke("convert", *AWKWARD, "-o", "three", "--seed", 1)
        for name in ("config.json", "model.safetensors"):
            assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
        assert Path("one/model.safetensors").read_bytes() != (
            Path("three/model.safetensors").read_bytes()
        )
        assert sorted(p.name for p in Path("one").iterdir()) == [
            "README.md",
            "config.json",
            "manifest.json",
            "model.safetensors",
        ]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "plan.json", "three", "two"]

    def test_a_plan_written_edited_and_given_back(self, invoke: Invoke) -> None:
        invoke("convert", *AWKWARD, "--dry-run", "--write-plan", "plan.json")
        assert not Path("out").exists()
        plan = json.loads(Path("plan.json").read_text())
        plan["layers"][1]["action"] = "keep"
        Path("plan.json").write_text(json.dumps(plan))
        invoke(
            "convert", "conftest:awkward", "--input-size", 16, "--plan", "plan.json", "-o", "out"
        )
        saved = artefact.read_config(Path("out")).plan
        assert saved is not None
        assert saved.layers[1].action == "keep"
        assert saved.layers[5].action == "rewrite"
        out = invoke("count", "out", "--factory", "conftest:awkward", "--json").stdout
        assert json.loads(out)["rows"][1]["action"] == "keep"

    def test_everything_that_is_kept_keeps_its_weights(self, invoke: Invoke) -> None:
        torch.manual_seed(5)
        from conftest import Awkward

        state = Awkward().state_dict()
        safetensors.torch.save_file(state, "w.safetensors")
        invoke("convert", *AWKWARD, "--weights", "w.safetensors", "-o", "out")
        written = safetensors.torch.load_file("out/model.safetensors")
        for name in ("stem.weight", "stem.bias", "body.4.weight", "fc.weight", "unused.weight"):
            assert torch.equal(written[name], state[name])
        assert torch.equal(written["twice.pointwise.bias"], state["twice.bias"])

    def test_a_folder_of_a_factory_needs_the_word_again(self, invoke: Invoke) -> None:
        invoke("convert", *AWKWARD, "-o", "out")
        assert "--factory conftest:awkward" in invoke("count", "out", code=1).stderr
        assert (
            "convolutions rewritten"
            in invoke("count", "out", "--factory", "conftest:awkward").stdout
        )

    def test_converted_twice(self, invoke: Invoke) -> None:
        invoke("convert", "wrn10_1", *DEPTH, "-o", "out")
        assert "converted already" in invoke("convert", "out", "-o", "again", code=2).stderr

    def test_options_of_the_substitution(self, invoke: Invoke) -> None:
        flags = ("--option", "init=paper", "--option", "extra_riffle=true", "--depth", 1)
        invoke("convert", "wrn10_1", *flags, "-o", "out")
        plan = artefact.read_config(Path("out")).plan
        assert plan is not None
        config = plan.rewritten[0].config
        assert (config["depth"], config["extra_riffle"], config["init"]) == (1, True, "paper")


def untrained_weights(name: str, weights: object, download: bool) -> dict[str, torch.Tensor]:
    from torchvision import models

    return models.get_model(name).state_dict()


TRAIN = ("--data", "digits", "--epochs", 2, "--batch-size", 128)
FEW = (*TRAIN, "--train-images", 300)


class TestTraining:
    def test_train_convert_distill_count(self, invoke: Invoke, tmp_path: Path) -> None:
        result = invoke("train", "wrn10_1", *TRAIN, "-o", "teacher")
        assert "epoch 2/2" in result.stderr
        config = artefact.read_config(Path("teacher"))
        assert config.input_size == (3, 32, 32)
        assert config.classes == list("0123456789")
        assert config.training["data"] == "digits"
        invoke("convert", "teacher", *DEPTH, "-o", "student")
        result = invoke("distill", "student", "--teacher", "teacher", *TRAIN, "-o", "distilled")
        words_at_end = " ".join(result.stderr.split())
        assert "taps group1,group2,group3" in words_at_end
        out = invoke("count", "distilled").stdout
        trained = artefact.read_config(Path("distilled")).metrics
        assert trained["teacher_accuracy"] == config.metrics["accuracy"]
        assert f"{trained['teacher_accuracy']:.2f}" in out
        assert f"{trained['accuracy']:.2f}" in out
        assert sorted(p.name for p in Path("distilled").iterdir()) == [
            "README.md",
            "best.safetensors",
            "config.json",
            "curves.png",
            "manifest.json",
            "metrics.jsonl",
            "model.safetensors",
        ]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["distilled", "student", "teacher"]
        content = json.loads(invoke("evaluate", "distilled", "--data", "digits", "--json").stdout)
        assert content["accuracy"] == trained["accuracy"]
        assert content["images"] == 360
        words = invoke("evaluate", "distilled", "--data", "digits", "--execution", "fast").stdout
        assert f"top-1 {trained['accuracy']:.2f} %" in words
        assert "(360 test images)" in words
        assert content["classes"] is None
        content = json.loads(
            invoke("evaluate", "distilled", "--data", "digits", "--by-class", "--json").stdout
        )
        right = sum(one["right"] for one in content["classes"])
        assert sum(one["images"] for one in content["classes"]) == 360
        assert 100 * right / 360 == pytest.approx(content["accuracy"])
        words = invoke("evaluate", "distilled", "--data", "digits", "--by-class").stdout
        assert "most often taken for" in words
        assert len(words.splitlines()) == 12  # the sentence, the head, ten digits
        settings = artefact.read_config(Path("distilled")).training
        plain, mine = 77_850, sum(p.numel() for p in artefact.load(Path("student")).parameters())
        original = sum(p.numel() for p in artefact.load(Path("teacher")).parameters())
        assert original == plain
        assert settings["factor_decay"] == "ratio"
        assert (
            f"Weight decay of the structured factors: {5e-4 * mine / original:.3g}." in words_at_end
        )
        assert settings["taps"] == ["group1", "group2", "group3"]
        assert (settings["crop"], settings["flip"]) == (False, False)
        for name in ("teacher", "student before", "student after", "best epoch", "time for 2"):
            assert f"{name}" in words_at_end
        assert Path("distilled/curves.png").read_bytes().startswith(b"\x89PNG")

    def test_interrupted_and_resumed(self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
        from seclcompress.cli.progress import TrainingProgress

        invoke("train", "wrn10_1", *FEW, "-o", "whole")

        def interrupt(self, *args) -> None:
            os.kill(os.getpid(), signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(TrainingProgress, "epoch", interrupt)
            result = invoke("train", "wrn10_1", *FEW, "-o", "half", "--tensorboard", code=130)
        assert list(Path("half.partial").glob("events.out.tfevents.*"))
        check_free(
            Path("half.partial"), overwrite=True
        )  # does not raise: the manifest names every file
        assert "Stopping after this step" in result.stderr
        assert "1 of 2 epochs and 1 steps are saved in half.partial" in result.stderr
        assert not Path("half").exists()
        result = invoke("train", "wrn10_1", *FEW, "-o", "half", code=1)
        assert "An interrupted run into half is in half.partial" in result.stderr
        result = invoke("train", "wrn10_1", *FEW, "-o", "half", "--resume")
        assert "Going on after epoch 1, step 1" in result.stderr
        assert not Path("half.partial").exists()
        assert Path("half/model.safetensors").read_bytes() == (
            Path("whole/model.safetensors").read_bytes()
        )

    def test_in_pieces_by_the_clock(self, invoke: Invoke) -> None:
        invoke("train", "wrn10_1", *TRAIN, "-o", "whole")
        pieces, resume = 0, []
        while not Path("half").exists():
            pieces += 1
            piece = ("train", "wrn10_1", *TRAIN, "-o", "half", "--time-limit", 0.2)
            last = pieces == 3
            invoke(*(piece[:-2] if last else piece), *resume, code=0 if last else 130)
            resume = ["--resume"]
        assert pieces == 3
        assert Path("half/model.safetensors").read_bytes() == (
            Path("whole/model.safetensors").read_bytes()
        )

    def test_a_recipe_a_file_and_tensorboard(self, invoke: Invoke) -> None:
        Path("mine.toml").write_text("epochs = 7\nlr = 0.01\nmixup = 0.2\nwarmup_epochs = 1\n")
        result = invoke(
            "train", "wrn10_1", "--data", "digits", "--recipe", "mine.toml", "--epochs", 1,
            "--train-images", 150, "--tensorboard", "--batch-size", 50, "-o", "out",
        )  # fmt: skip
        assert "mixup 0.2" in " ".join(result.stderr.split())
        config = artefact.read_config(Path("out"))
        assert config.training["recipe"] == "mine.toml"
        found = {key: config.training[key] for key in ("epochs", "lr", "mixup", "crop")}
        assert found == {"epochs": 1, "lr": 0.01, "mixup": 0.2, "crop": False}
        [events] = Path("out").glob("events.out.tfevents.*")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        told = EventAccumulator(str(events)).Reload()
        assert len(told.Scalars("loss/step")) == 3
        [accuracy] = told.Scalars("accuracy/top-1")
        assert accuracy.value == pytest.approx(config.metrics["accuracy"], rel=1e-5)
        invoke(
            "train", "wrn10_1", *TRAIN, "--train-images", 150, "-o", "out", "--overwrite"
        )  # the manifest names the events file, too

    def test_preprocessing_goes_with_a_network(self, invoke: Invoke, monkeypatch) -> None:
        from seclcompress.networks import torchvision_zoo

        monkeypatch.setattr(torchvision_zoo, "_fetch", untrained_weights)
        detector = "fasterrcnn_resnet50_fpn"
        assert torchvision_zoo.SOURCE.published_weights(detector, "DEFAULT").preprocessing is None
        invoke("convert", "mobilenet_v3_small", "--weights", "DEFAULT", "-o", "student")
        config = artefact.read_config(Path("student"))
        assert config.preprocessing is not None
        assert config.preprocessing.resize == 256
        assert config.preprocessing.mean == (0.485, 0.456, 0.406)

    def test_a_start_from_the_original(self, invoke: Invoke) -> None:
        start = ("--start", "original", "--only", "group1", "--depth", 4)
        result = invoke("convert", "wrn10_1", *start, "-o", "fitted")
        assert "group1.0.conv1:" in result.stderr
        assert "% of the pointwise weights' energy taken over" in result.stderr
        invoke("convert", "wrn10_1", *start[2:], "-o", "random")
        fitted, random = artefact.load(Path("fitted")), artefact.load(Path("random"))
        assert not torch.equal(
            fitted.group1[0].conv1.pointwise.a, random.group1[0].conv1.pointwise.a
        )
        invoke("convert", "wrn10_1", *start, "-o", "again")
        assert Path("again/model.safetensors").read_bytes() == (
            Path("fitted/model.safetensors").read_bytes()
        )

    def test_killed_before_the_first_checkpoint(self, invoke: Invoke) -> None:
        command = ("train", "wrn10_1", "--data", "digits", "--epochs", 1, "--train-images", 64)
        invoke(*command, "-o", "whole")
        Path("out.partial").mkdir()
        Path("out.partial/best.safetensors").write_bytes(b"from a step that no checkpoint knows")
        result = invoke(*command, "-o", "out", "--resume")
        assert "no checkpoint to go on from: starting from the beginning" in result.stderr
        assert Path("out/model.safetensors").read_bytes() == (
            Path("whole/model.safetensors").read_bytes()
        )
        assert "beta" not in artefact.read_config(Path("out")).training  # it had no teacher

    def test_overwrite_replaces_what_0_1_wrote(self, invoke: Invoke) -> None:
        shutil.copytree(Path(__file__).parents[1] / "written_by_0_1" / "distilled", "out")
        Path("out.partial").mkdir()
        for name in ("checkpoint.safetensors", "best.safetensors", "events.out.tfevents.1.host"):
            Path("out.partial", name).touch()
        command = ("train", "wrn10_1", "--data", "digits", "--epochs", 1, "--train-images", 64)
        invoke(*command, "-o", "out", "--overwrite")
        assert artefact.read_config(Path("out")).metrics.keys() >= {"best_epoch"}
        assert Path("out/manifest.json").is_file()
        assert not Path("out.partial").exists()

    def test_overwrite_gives_up_an_interrupted_run(self, invoke: Invoke) -> None:
        Path("out.partial").mkdir()
        invoke("train", "wrn10_1", *FEW, "-o", "out", "--overwrite")
        assert not Path("out.partial").exists()


def test_help_and_usage_errors_come_without_torch() -> None:
    """benchmarks/startup.py measures the start-up time; this test checks that torch is not imported."""
    code = """
import sys
from typer.testing import CliRunner
from seclcompress.cli import app
for line in (
    "--help", "count --help", "distill --help", "train --epochs x", "convert resnet18",
    "count resnet18 --input-size x", "count resnet18 --assign x",
    "survey --option x", "count resnet18 --plan plan.json --depth 3", "nothing",
):
    CliRunner().invoke(app, line.split())
    heavy = {"torch", "torchvision", "sklearn", "numpy", "scipy"} & set(sys.modules)
    assert not heavy, (line, heavy)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_as_a_module_and_through_a_closed_pipe() -> None:
    command = [sys.executable, "-m", "seclcompress", "networks"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_ctrl_c_in_a_real_run(tmp_path: Path) -> None:
    import signal

    command = [sys.executable, "-m", "seclcompress", "train", "wrn10_1", "--data", "digits"]
    command += ["--epochs", "500", "-o", "out"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    try:
        while not (tmp_path / "out.partial/checkpoint.safetensors").exists():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "--resume goes on" in words
    assert "Traceback" not in words
