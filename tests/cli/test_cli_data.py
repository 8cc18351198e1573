"""Pictures as people bring them, through the command line: exit codes and words."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import Invoke
from pictures import paint
from PIL import Image

from seclcompress import artefact

RGB = {"blue": "blue", "green": "green", "red": "red"}
QUICK = ("--epochs", 2, "--batch-size", 12, "--lr", 0.05)
FACTORY = """
from torch import nn

def net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
"""


def flat(words: str) -> str:
    return " ".join(words.split())


def train(
    invoke: Invoke, *more: object, code: int = 0, out: str = "out", data: str = "data"
) -> str:
    result = invoke(
        "train", "wrn10_1", "--data", f"imagefolder:{data}", *QUICK, *more, "-o", out, code=code
    )
    return flat(result.stderr)


def test_other_class_names(invoke: Invoke) -> None:
    paint(Path("data"), RGB)
    paint(Path("data2"), {"amber": "amber", "green": "green", "red": "red"})
    paint(Path("data4"), {"a_bleu": "blue", "b_vert": "green", "c_rouge": "red"})
    train(invoke, "--epochs", 3)
    saved = artefact.read_config(Path("out"))
    assert saved.classes == ["blue", "green", "red"]
    evaluate = ("evaluate", "out", "--data")
    words = flat(invoke(*evaluate, "imagefolder:data2", code=1).stderr)
    assert "only the network has blue; only the data have amber" in words
    assert "say --classes-by-order" in words
    by_order = invoke(*evaluate, "imagefolder:data4", "--classes-by-order", "--json")
    assert json.loads(by_order.stdout)["accuracy"] > 90
    assert "They are taken in their order" in flat(by_order.stderr)
    invoke("convert", "out", "--depth", 4, "-o", "student")
    distill = ("distill", "student", "--teacher", "out", "--data", "imagefolder:data2", "-o", "new")
    assert "only the network has blue" in flat(invoke(*distill, code=1).stderr)
    assert not Path("new").exists()
    network = artefact.load(Path("out"))
    other = saved.model_copy(update={"classes": ["red", "green", "blue"]})
    artefact.save(Path("other"), network, other)
    words = flat(invoke("evaluate", "other", "--data", "imagefolder:data").stderr)
    assert "lined up by their names" in words


@pytest.mark.parametrize("part", ["valid", "validation", "test"])
def test_names_of_the_part_for_the_test(invoke: Invoke, part: str) -> None:
    paint(Path("data"), RGB, parts={"training": 6, part: 4})
    assert "18 training images, 12 test images" in train(invoke)


def test_class_folders_alone(invoke: Invoke) -> None:
    paint(Path("data"), RGB, parts={"": 10})
    words = train(invoke, code=1)
    assert "data has no folder of test images" in words
    assert "--validation 0.2 would test on a fifth of each class" in words
    words = train(invoke, "--validation", 0.2)
    assert "24 training images, 6 test images" in words
    assert "6 of 30 images are for the test (--validation 0.2)" in words
    found = invoke("evaluate", "out", "--data", "imagefolder:data")
    assert "(6 test images)" in found.stdout
    assert "the same images are the test" in flat(found.stderr)
    digits = ("train", "wrn10_1", "--data", "digits", "-o", "no", "--validation", 1.5)
    assert "--validation" in invoke(*digits, code=2).stderr


def test_validation_images_are_held_out(invoke: Invoke) -> None:
    paint(Path("data"), RGB, parts={"train": 10, "val": 4})
    words = train(invoke, "--validation", 0.2)
    assert "24 training images, 12 test images, 6 validation images" in words
    assert "6 of 30 training images are held out" in words
    assert re.search(r"validation loss \d\.\d{4} validation accuracy \d+\.\d\d %", words)
    assert "test loss" not in words
    assert "chosen on the validation images" in words
    found = invoke("evaluate", "out", "--data", "imagefolder:data")
    assert "(12 test images)" in found.stdout
    evaluated = ("evaluate", "out", "--data", "imagefolder:data", "--validation", 0.2)
    words = flat(invoke(*evaluated, code=2).stderr)
    assert "--validation 0.2: imagefolder:data has test images of its own" in words


def test_what_is_not_read_is_said(invoke: Invoke) -> None:
    paint(Path("data"), RGB, parts={"train": 6, "val": 4})
    for number in range(30):
        Path(f"data/train/red/{number}.heic").write_bytes(b"")
    Path("data/train/.ipynb_checkpoints").mkdir()
    Image.new("RGB", (16, 16)).save("data/train/.ipynb_checkpoints/0.png")
    Path("data/train/red/._0.png").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
    for number in range(2):
        image = Image.new("RGB", (16, 16), (200, 40, 40))
        image.save(f"data/train/red/{number}.jfif", "JPEG")
        image.save(f"data/train/red/{number}.gif")
    words = train(invoke)
    assert "data/train: 30 .heic files were not read" in words
    assert ".ipynb_checkpoints: not read" in words
    assert "22 training images, 12 test images" in words
    assert "Assumed for wrn10_1 on imagefolder:data: mean 0.485, 0.456, 0.406" in words
    assert "16×16 pixels; they are shown at 3x32x32, the usual size of wrn10_1" in words


@pytest.mark.parametrize("cache", ["auto", "never"])
def test_images_that_were_left_out_are_summed_up_at_the_end(invoke: Invoke, cache: str) -> None:
    paint(Path("data"), RGB, parts={"train": 8, "val": 4})
    for number in range(5):
        Path(f"data/train/red/{number}.png").write_bytes(b"no image")
    Path("data/val/red/0.png").write_bytes(b"")
    reading = ("--bad-images", "skip", "--cache-images", cache)
    flags = ("--data", "imagefolder:data", *reading)
    trained = invoke("-q", "train", "wrn10_1", *flags, "--epochs", 2, "-o", "out", "--json")
    first, summary = trained.stderr.splitlines()
    why = "it is empty, damaged or no image of a known format"
    assert first.startswith("Warning: Left out. An image cannot be read: data/")
    assert first.endswith("What else is left out is said at the end.")
    assert summary.startswith(
        "Warning: 6 images of imagefolder:data left out (--bad-images skip): "
    )
    assert summary.count(why) == 3
    assert summary.endswith("; and 3 more.")
    left = json.loads(trained.stdout)["left_out"]
    assert len(left) == 6
    assert f"data/val/red/0.png: {why}" in left
    seen = invoke("evaluate", "out", *flags).stderr
    assert f"Warning: 1 image of imagefolder:data left out (--bad-images skip): {left[-1]}." in seen


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("more", [(), ("--bad-images", "skip")])
def test_a_named_pipe_does_not_hang(invoke: Invoke, more: tuple[str, ...]) -> None:
    paint(Path("data"), RGB, parts={"train": 6, "val": 4})
    os.mkfifo("data/train/red/pipe.png")
    Path("data/train/red/up").symlink_to("..", target_is_directory=True)
    words = train(invoke, *more)
    assert "red/pipe.png: not read, as it is no regular file but a pipe" in words
    assert "red/up: not followed, as this symbolic link leads to a folder around itself" in words
    assert "18 training images" in words


def test_floating_point_pictures(invoke: Invoke) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name, value in (("a", 0.2), ("b", 0.5), ("c", 0.9)):
            Path("data", part, name).mkdir(parents=True)
            for number in range(10):
                noise = (value + rng.normal(0, 0.03, (16, 16))).astype(np.float32)
                Image.fromarray(noise).save(Path("data", part, name, f"{number}.tif"))
    train(invoke, "--epochs", 4)
    assert artefact.read_config(Path("out")).metrics["best_accuracy"] > 60  # zeros would give 33.3
    Image.fromarray(255 * noise).save(Path("data", "val", "c", "0.tif"))
    words = train(invoke, out="other", code=1)
    assert "val/c/0.tif: its floating-point values lie between" in words


class TestChosen:
    def test_mean_standard_deviation_and_size(self, invoke: Invoke) -> None:
        paint(Path("data"), RGB, parts={"train": 6, "val": 4})
        train(invoke, "--mean", "0.5,0.4,0.3", "--std", 0.25, "--input-size", "16x24")
        saved = artefact.read_config(Path("out"))
        assert saved.preprocessing is not None
        assert (saved.preprocessing.mean, saved.preprocessing.std) == ((0.5, 0.4, 0.3), (0.25,))
        assert saved.input_size == (3, 16, 24)
        again = invoke("evaluate", "out", "--data", "imagefolder:data", "--json")
        assert json.loads(again.stdout)["accuracy"] == pytest.approx(saved.metrics["accuracy"])
        assert json.loads(again.stdout)["top5_accuracy"] is None
        assert "Assumed" not in again.stderr
        words = invoke("evaluate", "out", "--data", "imagefolder:data")
        assert "top-5" not in words.stdout
        assert "belong together" in train(invoke, "--mean", 0.5, out="no", code=2)
        assert "--std" in train(invoke, "--mean", 0.5, "--std", 0, out="no", code=2)
        assert "--mean" in train(invoke, "--mean", "a", "--std", 1, out="no", code=2)

    def test_a_factorys_size_is_that_of_the_pictures(self, invoke: Invoke) -> None:
        Path("sizes.py").write_text(FACTORY)
        paint(Path("data"), RGB, size=(24, 20))
        words = invoke("evaluate", "sizes:net", "--data", "imagefolder:data")
        assert "3x24x20 is taken for imagefolder:data, as its pictures are" in flat(words.stderr)
        assert "Assumed for sizes:net on imagefolder:data: mean 0.485" in flat(words.stderr)
        plain = invoke(
            *("evaluate", "sizes:net", "--data", "imagefolder:data", "--preprocessing", "plain"),
            *("--input-size", 24),
        )
        assert plain.stderr == ""

    def test_an_untrained_teacher(self, invoke: Invoke) -> None:
        Path("sizes.py").write_text(FACTORY)
        Path("wider.py").write_text(FACTORY.replace("8", "9"))
        paint(Path("data"), RGB)
        command = ("distill", "sizes:net", "--teacher", "wider:net", "--data", "imagefolder:data")
        command += ("--beta", 0, "--epochs", 1, "-o", "out")
        words = flat(invoke(*command, code=1).stderr)
        assert "chance among 3 classes is 33.33 %" in words
        assert "--untrained-teacher goes on all the same" in words
        invoke(*command, "--untrained-teacher", "--overwrite")
