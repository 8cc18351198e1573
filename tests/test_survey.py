"""The survey, and the usual steps (plan, rewrite, train, save, load) for every torchvision network."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from conftest import Invoke
from living import lives
from thinned import ALIKE, slow_or_exhaustive
from torch import nn

from seclcompress import networks, survey, workflows
from seclcompress.errors import SeclcompressError
from seclcompress.networks import torchvision_zoo
from seclcompress.networks.tasks import Detection, VideoClassification
from seclcompress.report.survey import survey_line, survey_paragraph


class TestSurvey:
    def test_one_line_a_network(self, invoke: Invoke) -> None:
        lines = invoke("survey", "raft_*").stdout.splitlines()
        assert len(lines) == 4
        for figure in (
            "5,257,536",
            "211,007,045,632",
            "13.71",
            "the classifier (×2); the stem (×1)",
        ):
            assert figure in lines[2]
        assert lines[2].split()[:3] == ["raft_large", "44", "3"]
        assert lines[3].startswith("raft_small ")

    @pytest.mark.parametrize("width", [40, 80])
    def test_a_paragraph_a_network_on_a_narrow_terminal(self, width: int) -> None:
        """The same figures as the line's, and no line wider than the terminal."""
        for surveyed in workflows.survey("*convnext_tiny"):
            line = survey_line(["acdc"], surveyed)
            found = survey_paragraph(["acdc"], surveyed, width)
            assert max(map(len, found.splitlines())) <= width
            figures = {word for word in line.split() if word.count(",")}
            assert figures <= set(found.split())
        (refused,) = workflows.survey("quantized_resnet18")
        found = survey_paragraph(["acdc"], refused, width)
        assert " ".join(found.split()) == f"quantized_resnet18: refused: {refused.refused}"

    def test_which_terminal_gets_paragraphs(
        self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("seclcompress.cli.survey.on_terminal", lambda: True)
        monkeypatch.setenv("COLUMNS", "80")
        narrow = invoke("survey", "resnet18").stdout
        assert narrow.startswith("resnet18: 17.29 times smaller, 5.39 times fewer Mult-Adds\n")
        monkeypatch.setenv("COLUMNS", "250")
        assert invoke("survey", "resnet18").stdout.splitlines()[1].startswith("network ")

    def test_as_csv_with_options(self, invoke: Invoke) -> None:
        out = invoke("survey", "convnext_tiny", "--csv", "--linear", "--depth", 8).stdout
        (row,) = csv.DictReader(io.StringIO(out))
        counted = invoke("count", "convnext_tiny", "--csv", "--linear", "--depth", 8).stdout
        total = list(csv.DictReader(io.StringIO(counted)))[-1]
        assert row["input_size"] == "3x224x224"
        for column in ("original", "separable", "dense", "fast", "auto"):
            for quantity in ("parameters", "mult_adds"):
                assert row[f"{column}_{quantity}"] == total[f"{column}_{quantity}"]

    def test_quantised_ones_are_refused_in_a_sentence(self, invoke: Invoke) -> None:
        lines = invoke("survey", "quantized_*net18").stdout.splitlines()
        assert (
            lines[2].split()
            == (
                "quantized_resnet18 refused: quantized_resnet18 computes with 8-bit integers, which can "
                "be neither trained nor rewritten: name resnet18 and quantise what comes of it."
            ).split()
        )

    def test_what_fails_is_named_at_the_end(self, invoke: Invoke, monkeypatch: Any) -> None:
        def fail(*arguments: object, **options: object) -> None:
            raise SeclcompressError("no luck")

        monkeypatch.setattr("seclcompress.workflows.surveying.count_network", fail)
        result = invoke("survey", "resnet18", code=1)
        assert "refused: no luck" in result.stdout
        assert "1 of 1 networks failed: resnet18" in result.stderr
        assert "None of torchvision's" in invoke("survey", "qq*", code=1).stderr

    def test_it_walks_all_that_torchvision_lists(self) -> None:
        from torchvision import models

        assert sorted(survey.names()) == sorted(models.list_models())


#: Sizes without channels at which a pass is quick, for networks that cannot run at the default ones.
SMALL = {
    "inception_v3": (299, 299),
    "maxvit_t": (224, 224),
    "s3d": (14, 224, 224),
    "mvit_v1_b": (16, 224, 224),
    "mvit_v2_s": (16, 224, 224),
    "raft_large": (128, 128),
    "raft_small": (128, 128),
}


def small_size(name: str) -> tuple[int, ...]:
    if name.startswith("vit_"):
        return networks.default_input_size(networks.named_spec(name))
    task = torchvision_zoo.SOURCE.task(networks.named_spec(name))
    usual = (4, 64, 64) if isinstance(task, VideoClassification) else (64, 64)
    return (3, *SMALL.get(name, (128, 128) if isinstance(task, Detection) else usual))


def shrink(network: nn.Module) -> nn.Module:
    """Makes a detector scale images to 128 pixels instead of 800, unless its size is fixed."""
    transform = getattr(network, "transform", None)
    if transform is not None and transform.fixed_size is None:
        transform.min_size, transform.max_size = (128,), 128
    return network


def torchvision_network_lives(name: str, folder: Path) -> None:
    options = {"aux_loss": True} if name.startswith(("fcn_", "deeplabv3_")) else {}
    spec = networks.named_spec(name, None, options)
    size, small = networks.default_input_size(spec), small_size(name)
    video = isinstance(torchvision_zoo.SOURCE.task(spec), VideoClassification)
    batch = 1 if video or name.startswith("raft") else 2
    lives(spec, folder, size, small, batch=batch, shrink=shrink)


@pytest.mark.parametrize(
    "name", ["lraspp_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"]
)
def test_a_network_for_other_tasks_lives(name: str, tmp_path: Path) -> None:
    torchvision_network_lives(name, tmp_path)


#: Detectors around a backbone that others here have, and the larger of two video networks.
RARE = (
    *("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn", "mvit_v1_b"),
    *ALIKE,
)


@pytest.mark.parametrize("name", slow_or_exhaustive(torchvision_zoo.SOURCE.names(), rare=RARE))
def test_every_network_lives(name: str, tmp_path: Path) -> None:
    torchvision_network_lives(name, tmp_path)
