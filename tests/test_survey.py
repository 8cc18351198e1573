"""The survey, and for every network of torchvision what a person would do with it."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Invoke
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from seclcompress import artefact, networks, survey
from seclcompress.count import check_rewritten, count_network
from seclcompress.errors import SeclcompressError
from seclcompress.networks import torchvision_zoo
from seclcompress.networks.tasks import Detection, VideoClassification, task_of
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.rewrite import rewrite_network
from seclcompress.trace import trace_network


class TestSurvey:
    def test_one_line_a_network(self, invoke: Invoke) -> None:
        lines = invoke("survey", "raft_*").stdout.splitlines()
        assert len(lines) == 4
        for figure in ("5,257,536", "211,007,045,632", "21.05", "the stem (×1)"):
            assert figure in lines[2]
        assert lines[2].split()[:3] == ["raft_large", "45", "2"]
        assert lines[3].startswith("raft_small ")

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

        monkeypatch.setattr("seclcompress.survey.count_network", fail)
        result = invoke("survey", "resnet18", code=1)
        assert "refused: no luck" in result.stdout
        assert "1 of 1 networks failed: resnet18" in result.stderr
        assert "None of torchvision's" in invoke("survey", "qq*", code=1).stderr

    def test_it_walks_all_that_torchvision_lists(self) -> None:
        from torchvision import models

        assert sorted(survey.names()) == sorted(models.list_models())


#: Sizes (channels left out) at which a pass is quick, where 64×64 will not do.
SMALL = {
    "inception_v3": (299, 299),
    "maxvit_t": (224, 224),
    "s3d": (14, 224, 224),
    "mvit_v1_b": (16, 224, 224),
    "mvit_v2_s": (16, 224, 224),
    "raft_large": (128, 128),
    "raft_small": (128, 128),
}
LARGEST_MEMORY = 12 * 2**30


def small_size(name: str) -> tuple[int, ...]:
    if name.startswith("vit_"):
        return torchvision_zoo.input_size(name)
    task = torchvision_zoo.task(name)
    usual = (4, 64, 64) if isinstance(task, VideoClassification) else (64, 64)
    return (3, *SMALL.get(name, (128, 128) if isinstance(task, Detection) else usual))


def shrink(network: nn.Module) -> nn.Module:
    """Makes a detector scale images to 128 pixels instead of 800, where it is free to."""
    transform = getattr(network, "transform", None)
    if transform is not None and transform.fixed_size is None:
        transform.min_size, transform.max_size = (128,), 128
    return network


def training_output(network: nn.Module, images: Tensor) -> Any:
    """A forward pass in training mode, with targets where the network wants some."""
    arguments = task_of(network).arguments(images)
    if not isinstance(task_of(network), Detection):
        return network(*arguments)
    height, width = images.shape[-2:]
    box = torch.tensor([[8.0, 8.0, width - 16.0, height - 24.0]])
    target = {
        "boxes": box,
        "labels": torch.ones(1, dtype=torch.int64),
        "masks": torch.ones(1, height, width, dtype=torch.uint8),
        "keypoints": torch.tensor([[[20.0, 20.0, 1.0]]]).expand(1, 17, 3).contiguous(),
    }
    return network(*arguments, [dict(target) for _ in images])


def leaves(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def lives(name: str, folder: Path) -> None:
    """Build, plan, rewrite, forward in eval and train, backward, save, load, the same output."""
    options = {"aux_loss": True} if name.startswith(("fcn_", "deeplabv3_")) else {}
    recipe = networks.named_recipe(name, None, options)
    size = networks.default_input_size(recipe)
    skeleton = networks.build(recipe, skeleton=True)
    trace = trace_network(skeleton, size)
    assert trace.unknown == {}
    wanted = PlanOptions(config={"depth": 4})
    plan = make_plan(skeleton, trace, wanted, may_be_empty=True)
    if not plan.rewritten:  # a transformer
        plan = make_plan(skeleton, trace, wanted.model_copy(update={"linear": True}))
    counted = count_network(skeleton, trace, plan)
    original = counted.columns["original"]
    assert original.mult_adds == trace.total_mult_adds
    assert original.parameters == sum(p.numel() for p in skeleton.parameters())
    assert counted.columns["auto"].parameters < original.parameters
    check_rewritten(rewrite_network(skeleton, plan), counted)
    del skeleton

    torch.manual_seed(0)
    network = shrink(rewrite_network(networks.build(recipe), plan))
    assert sum(p.numel() for p in network.parameters()) == counted.columns["auto"].parameters
    alone = isinstance(torchvision_zoo.task(name), VideoClassification) or name.startswith("raft")
    images = torch.rand(1 if alone else 2, *small_size(name))
    loss = sum(leaf.float().mean() for leaf in leaves(training_output(network.train(), images)))
    assert isinstance(loss, Tensor)
    loss.backward()
    ran = {layer.name for layer in plan.rewritten}
    for layer in ran:
        for parameter in network.get_submodule(layer).parameters():
            assert parameter.grad is not None, layer
            assert torch.isfinite(parameter.grad).all(), layer
    network.zero_grad(set_to_none=True)
    arguments = task_of(network).arguments(images)
    with torch.no_grad():
        expected = leaves(network.eval()(*arguments))
    assert all(torch.isfinite(leaf).all() for leaf in expected if leaf.is_floating_point())
    config = artefact.ArtefactConfig(recipe=recipe, plan=plan, input_size=size)
    artefact.save(folder / name, network, config)
    del network
    loaded = shrink(artefact.load(folder / name))
    with torch.no_grad():
        found = leaves(loaded(*arguments))
    assert len(found) == len(expected) > 0
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one, two)
    if sys.platform == "linux":
        import resource

        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert peak < LARGEST_MEMORY, f"{peak / 2**30:.1f} GiB"


@pytest.mark.parametrize(
    "name", ["lraspp_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn", "raft_small"]
)
def test_one_of_each_task_lives(name: str, tmp_path: Path) -> None:
    lives(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision_zoo.names())
def test_every_network_lives(name: str, tmp_path: Path) -> None:
    lives(name, tmp_path)
