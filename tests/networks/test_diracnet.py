"""DiracNets have the published sizes, no shortcuts, and fold into chains of convolutions."""

from __future__ import annotations

import pytest
import torch
from conftest import Invoke
from torch import nn

from seclcompress import networks
from seclcompress.errors import NetworkError
from seclcompress.inference import for_inference


def built(name: str, *, skeleton: bool = False) -> nn.Module:
    return networks.build(networks.named_spec(name), skeleton=skeleton)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("diracnet28_5", 9.1),
        ("diracnet28_10", 36.5),
        ("diracnet16_1", 0.17),
        ("diracnet34_1", 0.47),
        ("diracnet100_1", 1.54),
        ("diracnet10_2", 0.30),
        ("diracnet16_2", 0.69),
        ("diracnet34_2", 1.85),
        ("diracnet100_2", 6.13),
        ("diracnet10_4", 1.19),
        ("diracnet16_4", 2.74),
        ("diracnet34_4", 7.40),
        ("diracnet100_4", 24.47),
        ("diracnet18", 11.52),
        ("diracnet34", 21.64),
    ],
)
def test_published_numbers_of_parameters(name: str, millions: float) -> None:
    found = sum(parameter.numel() for parameter in built(name, skeleton=True).parameters()) / 1e6
    assert round(found, 1 if millions in (9.1, 36.5) else 2) == millions


@pytest.mark.parametrize(
    ("name", "number"), [("diracnet28_5", 9_124_250), ("diracnet18", 11_523_368)]
)
def test_by_hand_to_the_digit(name: str, number: int) -> None:
    """Filters without biases, two gains and two numbers of batch norm a channel, and the classifier."""
    found = sum(parameter.numel() for parameter in built(name, skeleton=True).parameters())
    assert found == number


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("diracnet29_5", "a depth of 6n .* Did you mean diracnet28_5"),
        ("diracnet28_0", "a width of at least 1/16"),
        ("diracnet9994_1", "the deepest is diracnet1204_1"),
    ],
)
def test_impossible_ones(name: str, words: str) -> None:
    with pytest.raises(NetworkError, match=words):
        built(name)


def test_it_folds_into_convolutions_and_relus() -> None:
    torch.manual_seed(0)
    network = built("diracnet10_0.25").train()
    with torch.no_grad():
        network(torch.randn(16, 3, 32, 32))
    ready = for_inference(network.eval(), (3, 32, 32))
    kinds = {type(module) for module in ready.modules() if not list(module.children())}
    plain = {nn.Conv2d, nn.Identity, nn.ReLU, nn.MaxPool2d}
    assert kinds == plain | {nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear}
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ready(x), network(x), atol=1e-4, rtol=1e-4)


def test_it_is_counted_and_trained_by_name(invoke: Invoke) -> None:
    with torch.device("cpu"):
        expected = sum(parameter.numel() for parameter in built("diracnet10_1").parameters())
    counted = invoke("count", "diracnet10_1", "--substitution", "dirac", "--stem", "--json")
    assert str(expected) in counted.stdout
    how = ("--data", "digits", "--epochs", 1, "--train-images", 40, "--batch-size", 20)
    invoke("train", "diracnet10_0.25", *how, "-o", "run")
    invoke("evaluate", "run", "--data", "digits")
