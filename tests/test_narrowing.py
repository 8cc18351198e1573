"""Narrowing layers, and networks to given widths."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from seclcompress import artefact, networks, workflows
from seclcompress.errors import ArtefactError, NetworkError, SeclcompressError
from seclcompress.narrowing import Kept, can_narrow, narrow, resize, widths_of
from seclcompress.networks import named_spec


@pytest.mark.parametrize(
    ("layer", "inputs", "outputs", "shape"),
    [
        (nn.Conv2d(6, 8, 3), [0, 2], [1, 3, 7], (3, 2, 3, 3)),
        (nn.Conv2d(6, 12, 3, groups=3), [2, 3, 4, 5], [4, 5, 6, 7, 8, 9, 10, 11], (8, 2, 3, 3)),
        (nn.Conv1d(6, 6, 3, groups=6), [1, 5], [1, 5], (2, 1, 3)),
        (nn.ConvTranspose2d(6, 8, 2), [0, 2], [1, 3, 7], (2, 3, 2, 2)),
        (nn.ConvTranspose2d(6, 12, 2, groups=3), [0, 1], [0, 1, 2, 3], (2, 4, 2, 2)),
        (nn.Linear(6, 8), [0, 2], [1, 3, 7], (3, 2)),
        (nn.BatchNorm2d(6), [0, 2], [0, 2], (2,)),
        (nn.PReLU(6), [0, 2], [0, 2], (2,)),
    ],
)
def test_a_layer_keeps_what_it_is_told(
    layer: nn.Module, inputs: list[int], outputs: list[int], shape: tuple[int, ...]
) -> None:
    assert can_narrow(layer)
    layer.weight.requires_grad_(False)
    narrow(layer, Kept(torch.tensor(inputs), torch.tensor(outputs)))
    assert layer.weight.shape == shape
    assert widths_of(layer) == (len(inputs), len(outputs))
    assert not layer.weight.requires_grad
    if getattr(layer, "bias", None) is not None:
        assert layer.bias.shape == (len(outputs),)


def test_what_cannot_be_narrowed() -> None:
    class Own(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * self.out_channels

    hooked = nn.Linear(2, 2)
    hooked.register_forward_hook(lambda *_: None)
    made = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    for layer in (Own(2, 2, 1), hooked, made, nn.PReLU(), nn.LayerNorm(4), nn.ReLU()):
        assert not can_narrow(layer)


def test_a_spec_with_widths_builds_a_narrower_network() -> None:
    widths = {"layer1.0.conv1": (64, 10), "layer1.0.bn1": (10, 10), "layer1.0.conv2": (10, 64)}
    spec = named_spec("resnet18").model_copy(update={"widths": widths})
    for network in (networks.build(spec, skeleton=True), networks.build_untrained(spec)):
        assert network.layer1[0].conv1.weight.shape == (10, 64, 3, 3)
        assert network.layer1[0].conv2.weight.shape == (64, 10, 3, 3)
    with torch.no_grad():
        assert network.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 1000)


def test_a_spec_without_widths_says_nothing_of_them() -> None:
    """So that folders of other networks are as they were, and earlier versions read them."""
    assert "widths" not in json.loads(named_spec("resnet18").model_dump_json())


@pytest.mark.parametrize(
    ("widths", "words"),
    [
        ({"nowhere": (1, 1)}, "name nowhere, and the network has no such layer"),
        ({"relu": (1, 1)}, "name relu, a ReLU that cannot be narrowed"),
        ({"": (1, 1)}, "a ResNet that cannot be narrowed"),
        (
            {"conv1": (3, 65)},
            "3 inputs and 64 outputs in 1 groups; it cannot be narrowed to 3 and 65",
        ),
        ({"bn1": (3, 4)}, "bn1 has 64 inputs and 64 outputs in 64 groups"),
    ],
)
def test_widths_that_cannot_be(widths: dict[str, tuple[int, int]], words: str) -> None:
    with pytest.raises(NetworkError, match=re.escape(words)):
        resize(networks.build(named_spec("resnet18"), skeleton=True), widths)


@pytest.mark.parametrize("widths", [(3, 16), (2, 8), (8, 4), (4, 16)])
def test_groups_are_kept_whole(widths: tuple[int, int]) -> None:
    network = nn.Sequential(nn.Conv2d(8, 16, 3, groups=4))
    if widths == (2, 8):
        with pytest.raises(NetworkError, match="in 4 groups"):
            resize(network, {"0": widths})
        return
    if widths == (4, 16) or widths == (3, 16) or widths == (8, 4):
        with pytest.raises(NetworkError, match="in 4 groups"):
            resize(network, {"0": widths})
    resize(network, {"0": (4, 8)})
    assert network[0].groups == 2


@pytest.mark.parametrize(
    "widths",
    [
        {"block1.0.conv1": [10**9, 10**9]},
        {"block1.0.conv1": [0, 1]},
        {"block1.0.conv1": [1]},
        {"x\n": [1, 1]},
        {"__class__": [1, 1]},
        {"block1.0.conv1": "wide"},
    ],
)
def test_a_strangers_widths_are_refused(widths: object, tmp_path: Path) -> None:
    workflows.slim("wrn10_1", "parameters=40k", tmp_path / "a", input_size=(3, 16, 16))
    config = json.loads((tmp_path / "a" / artefact.CONFIG).read_text())
    config["network"]["widths"] = widths
    (tmp_path / "a" / artefact.CONFIG).write_text(json.dumps(config))
    with pytest.raises((ArtefactError, NetworkError)) as caught:
        artefact.load(tmp_path / "a")
    assert isinstance(caught.value, SeclcompressError)
