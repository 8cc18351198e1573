"""A trace leaves a live network as it was, whatever the network stores while it runs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Invoke
from thinned import ALIKE, slow_or_exhaustive
from torch import Tensor, nn
from torchvision import models

from seclcompress import networks
from seclcompress.errors import NetworkError
from seclcompress.networks.tasks import task_of
from seclcompress.trace import trace_network

CACHING = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, padding=1)
        self.body = nn.Conv2d(64, 64, 3, padding=1)
        self.fc = nn.Linear(64, 10)
        self.grids, self.last = {}, None
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        size = tuple(x.shape[2:])
        if size not in self.grids:
            self.grids[size] = torch.linspace(0, 1, size[1], device=x.device)
        self.calls += 1
        x = self.last = self.body(self.conv(x) * self.grids[size])
        return self.fc(x.mean((2, 3)))
"""


def caching() -> nn.Module:
    names: dict[str, Any] = {"__name__": "caching"}
    exec(CACHING, names)
    network: nn.Module = names["Net"]()
    return network


def tensors_in(value: object, seen: set[int]) -> list[Tensor]:
    """All tensors that can be reached from an attribute."""
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, Tensor):
        return [value]
    inside: list[object] = []
    if isinstance(value, dict):
        inside = [*value.values()]
    elif isinstance(value, list | tuple | set):
        inside = [*value]
    elif hasattr(value, "__dict__"):
        inside = [*vars(value).values()]
    return [tensor for item in inside for tensor in tensors_in(item, seen)]


def test_what_a_network_stores(tmp_path: Path) -> None:
    network = caching().train()
    image = torch.rand(2, 3, 8, 8)
    expected = network(image).detach()
    grid, last = network.grids[8, 8], network.last
    random.seed(0)
    state = torch.get_rng_state()
    trace_network(network, (3, 8, 8))
    trace_network(network, (3, 6, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert [*network.grids] == [(8, 8)]
    assert network.grids[8, 8] is grid
    assert network.last is last
    assert network.calls.item() == 1
    assert all(module.training for module in network.modules())
    assert all(not module._forward_hooks for module in network.modules())
    torch.testing.assert_close(network(image), expected)


def test_also_if_it_looks_at_values_or_fails() -> None:
    class Looking(type(caching())):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y if float(y.sum()) < 1e9 else 0 * y

    network = Looking()
    assert trace_network(network, (3, 8, 8)).unknown == {}
    with pytest.raises(NetworkError):
        trace_network(network, (5, 8, 8))
    assert network.grids == {}
    assert network.last is None
    assert network.calls.item() == 0
    assert network(torch.rand(1, 3, 8, 8)).shape == (1, 10)


#: Detectors keep their anchors, Swin its windows' biases.
SOME = ["ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn", "swin_t", "mobilenet_v3_small"]


@pytest.mark.parametrize(
    "name",
    slow_or_exhaustive(
        [
            name
            for name in models.list_models()
            if not name.startswith("quantized_")
            # These take gigabytes and nothing that smaller ones of their kind do not have.
            and not name.endswith(("h_14", "l_16", "l_32", "128gf", "_10", "7_10"))
        ],
        SOME,
        ALIKE,
    ),
)
def test_networks_of_torchvision(name: str) -> None:
    spec = networks.named_spec(name)
    network = networks.build_untrained(spec).eval()
    size = networks.default_input_size(spec)
    before = {id(tensor): tensor.clone() for tensor in tensors_in(network, set())}
    trace_network(network, size)
    after = tensors_in(network, set())
    assert not any(tensor.is_meta for tensor in after)
    assert all(id(tensor) in before for tensor in after)
    assert all(torch.equal(before[id(tensor)], tensor) for tensor in after)
    if name in SOME:
        images = torch.rand(1, *size)
        with torch.no_grad():
            network(*task_of(network).arguments(images))


def test_a_factory_s_network_that_stores_is_trained(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("caching_net.py").write_text(CACHING)
    more = "--data digits --epochs 1 --train-images 100".split()
    invoke("train", "caching_net:Net", *more, "-o", "t", "--input-size", "8")
    invoke("convert", "t", "--factory", "caching_net:Net", "-o", "s", "--depth", "2")
    invoke(
        *"distill s --teacher t --factory caching_net:Net -o d --untrained-teacher".split(), *more
    )
    invoke(*"evaluate d --factory caching_net:Net --data digits".split())
