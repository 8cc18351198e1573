from __future__ import annotations

import pytest
import torch
from thinned import representatives, slow_or_exhaustive
from torch import nn
from torchvision import models

from seclcompress import networks
from seclcompress.errors import NetworkError
from seclcompress.networks import torchvision_zoo
from seclcompress.trace import trace_network


def test_sizes_calls_and_mult_adds(awkward_network: nn.Module) -> None:
    found = trace_network(awkward_network, (3, 16, 16))
    assert found.sizes("stem") == {((16, 16), (16, 16)): 1}
    assert found.sizes("body.0") == {((16, 16), (8, 16)): 1}
    assert found.sizes("twice") == {((4, 8), (4, 8)): 2}
    assert found.sizes("unused") == {}
    assert found.mult_adds["stem"] == 16 * 16 * 16 * 3 * 9
    assert found.mult_adds["fc"] == 880
    assert found.unknown == {}
    assert found.total_mult_adds == sum(found.mult_adds.values())


class Sized(nn.Module):
    """Layers whose inputs and outputs differ in size, or that are called in unusual ways."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(3, 8, 1, stride=2)
        self.padded = nn.Conv2d(8, 8, 3, padding=2, dilation=(1, 2))
        self.keyword = nn.Conv2d(8, 8, 3)
        self.alone = nn.Conv2d(8, 8, 3)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.row = nn.Conv1d(8, 8, 3)
        self.token = nn.Linear(8, 4)
        self.pooled = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.keyword(input=self.padded(self.strided(x)))
        x = self.up(self.alone(x[0])[None])
        x = self.row(x.flatten(2))
        self.pooled(torch.zeros(4, device=x.device))  # a single vector
        return self.pooled(input=self.token(x.mT)).mean(1)


def test_sizes_of_inputs_are_those_of_each_call() -> None:
    found = trace_network(Sized(), (3, 16, 13))
    assert found.sizes("strided") == {((16, 13), (8, 7)): 1}
    assert found.sizes("padded") == {((8, 7), (10, 7)): 1}
    assert found.sizes("keyword") == {((10, 7), (8, 5)): 1}
    assert found.sizes("alone") == {((8, 5), (6, 3)): 1}
    assert found.sizes("up") == {((6, 3), (12, 6)): 1}
    assert found.sizes("row") == {((72,), (70,)): 1}
    # For a Linear, both sizes are its number of positions.
    assert found.sizes("token") == {((70,), (70,)): 1}
    assert found.sizes("pooled") == {((70,), (70,)): 1, ((1,), (1,)): 1}
    (size,) = found.sizes("strided")
    assert (size.input, size.output) == ((16, 13), (8, 7))


def test_calls_on_different_inputs_with_equal_outputs_are_told_apart() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, stride=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            once = self.conv(x)
            return once + self.conv(x[..., :-1, :-1]) + self.conv(x.relu())

    found = trace_network(Twice(), (3, 8, 8)).sizes("conv")
    assert found == {((8, 8), (4, 4)): 2, ((7, 7), (4, 4)): 1}


def test_a_batch_of_regions_is_so_many_calls_of_one_size() -> None:
    class Regions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x.repeat(5, 1, 1, 1))
            return self.fc(x.mean((2, 3)))

    found = trace_network(Regions(), (3, 8, 9))
    assert found.sizes("conv") == {((8, 9), (6, 7)): 5}
    assert found.sizes("fc") == {((1,), (1,)): 5}


def test_the_network_is_left_as_it_was(awkward_network: nn.Module) -> None:
    awkward_network.train()
    awkward_network.body[1].eval()
    before = {k: v.clone() for k, v in awkward_network.state_dict().items()}
    trace_network(awkward_network, (3, 16, 16))
    assert awkward_network.training
    assert not awkward_network.body[1].training
    assert awkward_network.fc.training
    assert all(torch.equal(v, before[k]) for k, v in awkward_network.state_dict().items())
    assert not any(module._forward_hooks for module in awkward_network.modules())


def test_a_network_that_looks_at_values_is_run_for_real() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return y if float(y.sum()) > 1e9 else y.relu()

    assert trace_network(Looks(), (3, 8, 8)).sizes("conv") == {((8, 8), (6, 6)): 1}


def test_an_operation_that_nobody_counts_is_named() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    assert trace_network(Odd(), (3, 4, 4)).unknown == {"special_bessel_j0": 1}


@pytest.mark.parametrize("name", ["alexnet", "densenet121"])
def test_too_small_an_input(name: str) -> None:
    network = networks.build(networks.named_spec(name), skeleton=True)
    with pytest.raises(NetworkError, match=r"cannot run at an input of 3×8×8: .*--input-size"):
        trace_network(network, (3, 8, 8))


#: torchvision's figures of detectors that found nothing in a blank image. This package counts the most
#: that a network can find.
BLANK = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": 2.873,
    "fasterrcnn_mobilenet_v3_large_fpn": 18.853,
    "keypointrcnn_resnet50_fpn": 483.470,
    "maskrcnn_resnet50_fpn": 187.586,
}


_NAMES = torchvision_zoo.SOURCE.names()


@pytest.mark.parametrize("name", slow_or_exhaustive(_NAMES, quick=representatives(_NAMES)))
def test_torchvisions_own_figures(name: str) -> None:
    """A third count for comparison: the figures that torchvision publishes with every set of weights."""
    traces = {}
    for weights in models.get_model_weights(name):
        published = torchvision_zoo.SOURCE.published_weights(name, weights.name)
        size, options = published.input_size, published.options
        classes = len(weights.meta.get("categories") or ()) or None
        key = (size, classes, str(options))
        if key not in traces:
            spec = networks.named_spec(name, classes, options)
            network = networks.build(spec, skeleton=True)
            parameters = sum(p.numel() for p in network.parameters())
            traces[key] = (trace_network(network, size), parameters)
        found, parameters = traces[key]
        assert round(found.total_mult_adds / 1e9, 3) == BLANK.get(name, weights.meta["_ops"])
        assert parameters == weights.meta["num_params"]
        assert found.unknown == {}
