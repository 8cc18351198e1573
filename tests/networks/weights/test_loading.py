from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from seclcompress import networks
from seclcompress.errors import WeightsError
from seclcompress.networks import weights
from seclcompress.networks.weights import load_weights


def test_weights_that_do_not_fit_change_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 10))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = {k: v.clone() for k, v in before.items()}
    state["0.weight"] = torch.zeros(4, 3, 5, 5)
    state["2.weight"] = state.pop("1.bias")
    with pytest.raises(
        WeightsError,
        match=r"file does not fit the network: missing 1.bias; unexpected 2.weight; "
        r"0.weight has shape 4×3×5×5 instead of 4×3×3×3",
    ):
        load_weights(network, state, "file")
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_another_number_of_classes() -> None:
    network = networks.build(networks.named_spec("wrn10_1", 7))
    state = networks.build(networks.named_spec("wrn10_1", 10)).state_dict()
    with pytest.raises(WeightsError, match="--num-classes 10 takes all of it; with another number"):
        load_weights(network, state, "file")
    loaded = load_weights(network, state, "file", new_head=True)
    assert loaded.untrained == ("fc.weight", "fc.bias")
    assert loaded.words() == "file: fresh, for another number of classes: fc.weight, fc.bias."
    assert torch.equal(network.conv1.weight, state["conv1.weight"])


def test_two_heads_may_differ_and_nothing_else() -> None:
    class Two(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.side = nn.Linear(5, classes)
            self.body = nn.Linear(6, 6)
            self.main = nn.Linear(6, classes)

    state = Two(1000).state_dict()
    loaded = load_weights(Two(10), state, "file", new_head=True)
    assert loaded.untrained == ("side.weight", "side.bias", "main.weight", "main.bias")
    state["body.weight"] = torch.zeros(7, 6)
    with pytest.raises(WeightsError, match="does not fit"):
        load_weights(Two(10), state, "file", new_head=True)


class Grown(nn.Module):
    """A module whose second version counts in tenths, and converts weights of the first version."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def _load_from_state_dict(self, state, prefix, metadata, *others) -> None:
        if (metadata.get("version") or 1) < 2:
            state[prefix + "scale"] = state[prefix + "scale"] * 10
        super()._load_from_state_dict(state, prefix, metadata, *others)


@pytest.mark.parametrize("wrapped", [False, True])
def test_versions_of_modules_in_a_file(tmp_path: Path, wrapped: bool) -> None:
    saved = {"Net": nn.Sequential(Grown()), "Wrapped": nn.DataParallel(nn.Sequential(Grown()))}
    state = saved["Wrapped" if wrapped else "Net"].state_dict()
    name = "module.0" if wrapped else "0"
    for version, scale in ((1, 10.0), (2, 1.0)):
        state._metadata[name]["version"] = version
        torch.save(state, tmp_path / "weights.pth")
        network = nn.Sequential(Grown())
        weights.load_weights(network, weights.read_weights(tmp_path / "weights.pth"), "it")
        assert network[0].scale.tolist() == [scale, scale]
    network = nn.Sequential(Grown())
    weights.put_state(network, {"0.scale": torch.ones(2)})  # has no version: the network's
    assert network[0].scale.tolist() == [1.0, 1.0]
    state._metadata = {name: {"version": object}, 3: None}
    weights.put_state(network, OrderedDict({"0.scale": torch.ones(2)}))
    assert network[0].scale.tolist() == [1.0, 1.0]


def test_a_network_whose_state_has_no_versions() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1))
    network._register_state_dict_hook(lambda module, state, prefix, extra: OrderedDict(state))
    weights.put_state(network, {name: 0 * t for name, t in network.state_dict().items()})
    assert not network[0].weight.detach().any()


def test_a_network_without_matrices() -> None:
    norm = nn.BatchNorm2d(4)
    with pytest.raises(WeightsError, match="weight has shape 5 instead of 4"):
        load_weights(norm, nn.BatchNorm2d(5).state_dict(), "the file", new_head=True)
