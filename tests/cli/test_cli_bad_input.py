"""Bad input: an exit code, a helpful message, nothing overwritten, nothing half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import Invoke
from PIL import Image

from seclcompress import networks

TRAIN = ("--data", "digits", "--epochs", 1)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path: Path):
    """After an error there is no output, whole or half-written."""
    yield
    left = {p.name for p in tmp_path.iterdir()} & {"out", "out.partial", "plan-out.json"}
    assert not left
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".out")]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["count", "resnet5"], 1, "Unknown network 'resnet5'. Did you mean resnet50"),
        (["count", "some/where"], 1, "There is no folder some/where"),
        (
            ["count", "resnet18", "--depth", 0],
            2,
            "depth: Input should be greater than or equal to 1",
        ),
        (
            ["count", "resnet18", "--depth", -3],
            2,
            "depth: Input should be greater than or equal to 1",
        ),
        (["count", "resnet18", "--depth", "x"], 2, "Invalid value for '--depth'"),
        (["count", "resnet18", "--substitution", "acdcc"], 2, "Did you mean acdc"),
        (["count", "resnet18", "--option", "width=3"], 2, "It takes: depth, extra_riffle, init"),
        (["count", "resnet18", "--option", "depth"], 2, "it takes KEY=VALUE"),
        (["count", "resnet18", "--option", "depth=3", "--depth", 4], 2, "given twice: 3 and 4"),
        (["count", "resnet18", "--keep", "layer9"], 1, "--keep 'layer9' matches none of the 20"),
        (["count", "resnet18", "--only", "layer9"], 1, "--only 'layer9' matches none of the 20"),
        (
            ["convert", "resnet18", "--keep", "*", "--dry-run"],
            1,
            "rewrites none of the 20 convolutions",
        ),
        (["count", "resnet18", "--input-size", "big"], 2, "it takes a side (224), height"),
        (["count", "resnet18", "--input-size", "3x224"], 2, "With the channels, please"),
        (["count", "resnet18", "--input-size", "0"], 2, "it takes a side"),
        (
            ["count", "resnet18", "--input-size", "3"],
            2,
            "images of 3x3 pixels. It takes a side (224), height x width (128x224), or a shape with the "
            "channels (3x128x224); for so small images, 3x3x3.",
        ),
        (
            ["distill", "no", "--teacher", "no", *TRAIN, "-o", "out", "--teacher-input-size", 1],
            2,
            "--teacher-input-size 1: that would be images of 1x1 pixels. It takes a side (224)",
        ),
        (["count", "resnet18", "--input-size", "4x32x32"], 1, "cannot run at an input of 4×32×32"),
        (["count", "alexnet", "--input-size", "8"], 1, "cannot run at an input of 3×8×8"),
        (["count", "resnet18", "--json", "--csv"], 2, "exclude each other"),
        (["count", "torch.nn:Linear"], 1, "it raised TypeError"),
        (["count", "conftest:Nothing"], 1, "has no attribute 'Nothing'"),
        (["count", "torch.nn:Identity"], 1, "no convolution"),
        (
            ["convert", "vit_b_16", "--dry-run"],
            1,
            "rewrites none of the 1 convolutions. conv_proj: the stem",
        ),
        (["count", "resnet18", "--plan", "plan-in.json"], 1, "Cannot read the plan"),
        (["count", "resnet18", "--cost-model", "guess"], 2, "Invalid value for '--cost-model'"),
        (["convert", "resnet18"], 2, "Give a folder with --output-dir/-o"),
        (
            ["convert", "resnet18", "-o", "out", "--weights", "no.pth"],
            1,
            "There is no weights file",
        ),
        (
            ["convert", "resnet18", "-o", "out", "--weights", "V9"],
            1,
            "torchvision has: IMAGENET1K_V1",
        ),
        (["convert", "wrn10_1", "-o", "out", "--weights", "V9"], 2, "only torchvision's networks"),
        (["convert", "wrn10_1", "-o", "out", "--seed", -1], 2, "Invalid value for '--seed'"),
        (["train", "wrn10_1", *TRAIN], 2, "Missing option '--output-dir'"),
        (["train", "wrn10_1", "--data", "svhn", "-o", "out"], 2, "Unknown data 'svhn'"),
        (
            ["train", "wrn10_1", *TRAIN, "-o", "out", "--lr", 0],
            2,
            "lr: Input should be greater than 0",
        ),
        (["train", "wrn10_1", *TRAIN, "-o", "out", "--lr", "nan"], 2, "lr: Input should be"),
        (
            ["train", "wrn10_1", *TRAIN, "-o", "out", "--epochs", 0],
            2,
            "--epochs: Input should be greater than or equal to 1",
        ),
        (["train", "wrn10_1", *TRAIN, "-o", "out", "--device", "cuda:77"], 2, "--device cuda:77"),
        (
            ["train", "wrn10_1", *TRAIN, "-o", "out", "--factor-decay", "x"],
            2,
            "--factor-decay: it takes ratio, fixed, product or a number",
        ),
        (
            ["train", "wrn10_1", *TRAIN, "-o", "out", "--num-classes", 7],
            1,
            "10 classes, but wrn10_1",
        ),
        (
            ["train", "wrn10_1", "--data", "cifar10", "-o", "out", "--data-dir", "d"],
            1,
            "--download",
        ),
        (["train", "wrn10_1", "--data", "imagefolder:d", "-o", "out"], 1, "There is no folder d"),
        (
            ["train", "fasterrcnn_resnet50_fpn", *TRAIN, "-o", "out"],
            2,
            "train knows image classification only",
        ),
        (
            ["evaluate", "r3d_18", "--data", "digits"],
            2,
            "evaluate knows image classification only",
        ),
        (["distill", "no", "--teacher", "no", *TRAIN, "-o", "out"], 1, "Unknown network 'no'"),
        (["distill", "wrn10_1", "--teacher", "wrn10_1", *TRAIN, "-o", "out"], 2, "teaches nothing"),
        (["count", "wrn10_1", "--plan", "p.json", "--depth", 3], 2, "decided already what --depth"),
        (
            ["train", "wrn10_1", *TRAIN, "-o", "out", "--seed", 10**17],
            2,
            "--seed: Input should be less than",
        ),
        (
            ["train", "resnet18", *TRAIN, "--batch-size", 1, "-o", "out"],
            1,
            "cannot train on 1 images",
        ),
        (["distill", "no/", "--teacher", "no", *TRAIN, "-o", "out"], 1, "There is no folder no."),
        (["nothing"], 2, "No such command 'nothing'"),
    ],
)
def test_said_in_words(invoke: Invoke, arguments: list[object], code: int, words: str) -> None:
    result = invoke(*arguments, code=code)
    assert words in " ".join(result.stderr.replace("│", " ").split())


def test_weights_that_do_not_fit(invoke: Invoke) -> None:
    state = networks.build(networks.named_spec("wrn10_2")).state_dict()
    safetensors.torch.save_file(state, "w.safetensors")
    words = invoke("convert", "wrn10_1", "--weights", "w.safetensors", "-o", "out", code=1).stderr
    assert "does not fit the network: unexpected group1.0.shortcut.weight; " in words
    assert "group1.0.conv1.weight has shape 32×16×3×3 instead of 16×16×3×3" in words
    assert "and 30 more" in words


def test_weights_of_another_network(invoke: Invoke) -> None:
    state = networks.build(networks.named_spec("resnet20_cifar")).state_dict()
    safetensors.torch.save_file(state, "w.safetensors")
    words = invoke("convert", "wrn10_1", "--weights", "w.safetensors", "-o", "out", code=1).stderr
    assert (
        "w.safetensors does not fit the network: missing group1.0.bn1.weight, group1.0.bn1.bias, "
        "group1.0.bn1.running_mean and 35 more; unexpected bn1.bias, bn1.running_mean, bn1.running_var "
        "and 112 more." in words
    )


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x80\x04."])
def test_a_damaged_weights_file(invoke: Invoke, content: bytes) -> None:
    Path("w.pth").write_bytes(content)
    words = invoke("convert", "wrn10_1", "--weights", "w.pth", "-o", "out", code=1).stderr
    assert "w.pth" in words


def test_nan_in_the_weights(invoke: Invoke) -> None:
    state = networks.build(networks.named_spec("wrn10_1")).state_dict()
    state["fc.bias"][3] = float("nan")
    torch.save(state, "w.pth")
    words = invoke("convert", "wrn10_1", "--weights", "w.pth", "-o", "out", code=1).stderr
    assert "NaN or infinite: fc.bias (1 of 10)" in words


def test_an_output_that_exists(invoke: Invoke) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("dear diary")
    for command in (
        ["convert", "wrn10_1"],
        ["train", "wrn10_1", *TRAIN],
        ["distill", "wrn10_1", "--teacher", "wrn10_1", *TRAIN],
    ):
        assert "is there already" in invoke(*command, "-o", "mine", code=1).stderr
        words = invoke(*command, "-o", "mine", "--overwrite", code=1).stderr
        assert "what seclcompress did not write (notes.txt)" in words
    Path("plan.json").write_text("mine")
    words = invoke("convert", "wrn10_1", "--dry-run", "--write-plan", "plan.json", code=1).stderr
    assert "plan.json is there already" in words
    assert Path("plan.json").read_text() == "mine"
    assert Path("mine/notes.txt").read_text() == "dear diary"


def test_a_plan_for_another_network(invoke: Invoke) -> None:
    invoke("convert", "wrn10_1", "--depth", 2, "--dry-run", "--write-plan", "plan.json")
    words = invoke("convert", "wrn16_1", "--plan", "plan.json", "-o", "out", code=1).stderr
    assert "plan.json is not a plan for this network: it says nothing of group1.1.conv1" in words
    plan = json.loads(Path("plan.json").read_text())
    plan["layers"][1]["execution"] = "quick"
    Path("plan.json").write_text(json.dumps(plan))
    words = invoke("count", "wrn10_1", "--plan", "plan.json", code=1).stderr
    assert "layers.1.execution: Input should be 'dense' or 'fast' (got 'quick')" in words


def other_teacher(invoke: Invoke) -> None:
    invoke("convert", "wrn10_1", "--depth", 1, "-o", "other")


def test_a_damaged_folder(invoke: Invoke) -> None:
    other_teacher(invoke)
    invoke("convert", "wrn10_1", "--depth", 2, "-o", "student")
    weights = Path("student/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    command = ["distill", "student", "--teacher", "other", *TRAIN, "-o", "out"]
    assert "not a readable safetensors file" in invoke(*command, code=1).stderr


@pytest.mark.parametrize("command", ["distill", "recover"])
def test_its_own_teacher(invoke: Invoke, converted: Path, command: str) -> None:
    Path("link").symlink_to(converted)
    rest = ("--data", "digits", "-o", "out")
    for teacher in (converted, "link", f"{converted}/"):
        words = invoke(command, converted, "--teacher", teacher, *rest, code=2).stderr
        assert f"{converted} is the student and its own --teacher. It would learn nothing." in words


def test_a_teacher_with_the_students_weights(invoke: Invoke, converted: Path) -> None:
    shutil.copytree(converted, "copy")
    flags = ("--teacher", "copy", "--untrained-teacher", *TRAIN, "-o", "out")
    words = invoke("distill", converted, *flags, code=2).stderr
    assert f"{converted} and --teacher copy are one network with the same weights." in words


def test_data_with_other_classes(invoke: Invoke) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            Path("data", split, name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(Path("data", split, name, "1.png"))
    other_teacher(invoke)
    invoke("convert", "wrn10_1", "--depth", 2, "-o", "student")
    command = ["distill", "student", "--teacher", "other", "--data", "imagefolder:data"]
    words = invoke(*command, "-o", "out", code=1).stderr
    assert "imagefolder:data has 2 classes, but student has 10 outputs" in words


def test_taps_that_are_not_there(invoke: Invoke) -> None:
    other_teacher(invoke)
    invoke("convert", "wrn10_1", "--depth", 2, "-o", "student")
    command = ["distill", "student", "--teacher", "other", *TRAIN, "-o", "out"]
    for taps, words in [
        ("layer9", "There is no module 'layer9' to tap in the student"),
        ("fc", "'fc' gives (1, 10): no map"),
        (" , ", "Name some with --taps"),
    ]:
        assert words in invoke(*command, "--taps", taps, code=2).stderr


def test_a_typo_does_not_give_up_an_interrupted_run(invoke: Invoke, tmp_path: Path) -> None:
    Path("run.partial").mkdir()
    Path("run.partial/checkpoint.safetensors").write_text("hours of work")
    invoke("train", "wrn5_1", *TRAIN, "-o", "run", "--overwrite", code=1)
    assert Path("run.partial/checkpoint.safetensors").exists()
    Path("run.partial/thesis.tex").touch()
    words = invoke("train", "wrn10_1", *TRAIN, "-o", "run", "--overwrite", code=1).stderr
    assert "thesis.tex" in words
    assert Path("run.partial/thesis.tex").exists()


def test_a_convolution_that_cannot_be_seen(invoke: Invoke) -> None:
    Path("hidden.py").write_text(
        "import torch\n"
        "class Hidden(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.stem = torch.nn.Conv2d(3, 64, 1)\n"
        "        self.conv = torch.nn.Conv2d(64, 64, 3)\n"
        "        self.same = [self.conv]\n"
        "    def forward(self, x):\n"
        "        return self.same[0](self.stem(x)).mean((2, 3))\n"
    )
    words = invoke(
        "convert", "hidden:Hidden", "--input-size", 8, "--head", "-o", "out", code=1
    ).stderr
    assert "in a way that cannot be seen from outside" in words
    assert "--keep" in words


def test_words_are_not_turned_into_pictures(invoke: Invoke) -> None:
    Path("fac.py").write_text("def boom(): raise ValueError('no :boom: here [red]')")
    words = invoke("count", "fac:boom", code=1).stderr
    assert "fac:boom: it raised ValueError: no :boom: here [red]" in words


def test_a_traceback_only_with_debug(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from seclcompress.cli import app

    result = CliRunner().invoke(app, ["--debug", "count", "resnet5"])
    assert "Traceback" in result.stderr
    assert "NetworkError" in result.stderr
    assert result.exit_code == 1

    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("seclcompress.workflows.locating.locate", broken)
    words = invoke("count", "resnet18", code=1).stderr
    assert "Internal error" in words
    assert "ZeroDivisionError: boom" in words


class Evil:
    def __reduce__(self) -> tuple:
        return (Path("evil").touch, ())


def test_a_pickle_with_code_in_it(invoke: Invoke) -> None:
    torch.save({"conv1.weight": Evil()}, "w.pth")
    words = invoke("convert", "wrn10_1", "--weights", "w.pth", "-o", "out", code=1).stderr
    assert "made by getattr beside tensors, and making it could run code: refused" in words
    assert not Path("evil").exists()
