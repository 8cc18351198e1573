"""Networks by name, whichever source knows them."""

from __future__ import annotations

import pytest
import torch
from torchvision import models

from seclcompress import networks
from seclcompress.errors import NetworkError, UsageError
from seclcompress.networks import torchvision_zoo


def test_all_of_torchvisions_and_the_papers() -> None:
    assert set(models.list_models()) == {
        *torchvision_zoo.SOURCE.names(),
        *torchvision_zoo.quantised_names(),
    }
    assert {"resnet50", "vit_b_16", "wrn40_2", "wrn28_10", "wrn16_2"} <= set(networks.names())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("wrn40_2", 2_243_546), ("wrn28_10", 36_479_194), ("resnet50", 25_557_032)],
)
def test_parameters(name: str, parameters: int) -> None:
    network = networks.build(networks.named_spec(name), skeleton=True)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_num_classes() -> None:
    network = networks.build(networks.named_spec("wrn10_1", 7))
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet5", r"Unknown network 'resnet5'. Did you mean resnet50"),
        ("wrn41_2", r"There is no wrn41_2.*Did you mean wrn40_2\?"),
        ("wrn40_0", r"There is no wrn40_0"),
        ("nonsense", r"`seclcompress networks` lists all \d+;"),
    ],
)
def test_unknown_names(name: str, words: str) -> None:
    with pytest.raises(NetworkError, match=words):
        networks.build(networks.named_spec(name))


@pytest.mark.parametrize(
    ("name", "size", "task", "classes"),
    [
        ("resnet18", (3, 224, 224), "image classification", 1000),
        ("vit_h_14", (3, 224, 224), "image classification", 1000),
        ("maskrcnn_resnet50_fpn", (3, 800, 800), "object detection", None),
        ("ssd300_vgg16", (3, 300, 300), "object detection", None),
        ("fcn_resnet50", (3, 520, 520), "semantic segmentation", None),
        ("r3d_18", (3, 16, 112, 112), "video classification", None),
        ("mvit_v1_b", (3, 16, 224, 224), "video classification", None),
        ("raft_small", (3, 512, 512), "optical flow", None),
    ],
)
def test_tasks(name: str, size: tuple[int, ...], task: str, classes: int | None) -> None:
    spec = networks.named_spec(name)
    assert spec.num_classes == classes
    assert networks.default_input_size(spec) == size
    assert torchvision_zoo.SOURCE.task(spec).name == task
    if task == "image classification":
        networks.check_image_classification(spec, "train")
        return
    with pytest.raises(UsageError, match=f"{name} is a network for {task}; train knows image"):
        networks.check_image_classification(spec, "train")


def test_classes_of_other_tasks() -> None:
    spec = networks.named_spec("fcos_resnet50_fpn", 7)
    head = networks.build(spec, skeleton=True).head.classification_head
    assert head.num_classes == 7
    with pytest.raises(NetworkError, match=r"raft_small has no classes; drop --num-classes"):
        networks.named_spec("raft_small", 7)
