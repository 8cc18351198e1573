from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from seclcompress import networks, resolve
from seclcompress.errors import WeightsError
from seclcompress.networks import weights
from seclcompress.networks.weights import load_weights, read_weights


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_weights_from_a_file(tmp_path: Path, suffix: str, wrapper: str | None) -> None:
    network = networks.build(networks.named_spec("wrn10_1"))
    path, state = tmp_path / f"weights{suffix}", network.state_dict()
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        parallel = {f"module.{key}": value for key, value in state.items()}
        torch.save({wrapper: parallel, "epoch": 3} if wrapper else state, path)
    loaded, told = resolve.locate("wrn10_1", weights=str(path)).load(seed=9)
    assert told.untrained == []
    assert all(torch.equal(v, state[k]) for k, v in loaded.state_dict().items())


class Evil:
    def __reduce__(self) -> tuple:
        return (Path("evil").touch, ())


def test_a_pickle_with_code_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Evil()}, "evil.pth")
    Path("raw.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "raw.pth"):
        with pytest.raises(WeightsError, match=r"refused|damaged"):
            read_weights(Path(name))
    assert not Path("evil").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"a": torch.zeros(99)}, path)
    else:
        safetensors.torch.save_file({"a": torch.zeros(99)}, path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\0" * 64, b"text"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"damaged|not a readable|refused"):
            read_weights(path)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no weights file"):
        read_weights(tmp_path / "nowhere.pth")
    (tmp_path / "w.bin").touch()
    with pytest.raises(WeightsError, match="neither of safetensors nor of torch.save"):
        read_weights(tmp_path / "w.bin")
    torch.save([1, 2], tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="holds a list, not weights by name"):
        read_weights(tmp_path / "w.pt")
    for content in ({"a": 3}, {}):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(WeightsError, match=r"holds no tensors by name: it has ('a'|nothing)"):
            load_weights(nn.Linear(2, 2), read_weights(tmp_path / "w.pt"), "w.pt")


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
    with pytest.raises(WeightsError, match="say it with --num-classes"):
        load_weights(network, state, "file")
    loaded = load_weights(network, state, "file", new_head=True)
    assert loaded.untrained == ["fc.weight", "fc.bias"]


def test_two_heads_may_differ_and_nothing_else() -> None:
    class Two(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.side = nn.Linear(5, classes)
            self.body = nn.Linear(6, 6)
            self.main = nn.Linear(6, classes)

    state = Two(1000).state_dict()
    loaded = load_weights(Two(10), state, "file", new_head=True)
    assert loaded.untrained == ["side.weight", "side.bias", "main.weight", "main.bias"]
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


def test_prefixes_come_off_only_where_all_have_them(tmp_path: Path) -> None:
    own = nn.ModuleDict({"module": nn.Linear(2, 2)})
    torch.save(own.state_dict(), tmp_path / "own.pth")
    load_weights(own, read_weights(tmp_path / "own.pth"), "own.pth")
    plain = nn.Linear(2, 2)
    for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."):
        state = {prefix + name: torch.ones_like(v) for name, v in plain.state_dict().items()}
        load_weights(plain, state, "file")
        assert torch.equal(plain.weight, torch.ones(2, 2))
        nn.init.zeros_(plain.weight)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(bad: float) -> None:
    network = nn.Linear(3, 3)
    state = network.state_dict() | {"weight": torch.full((3, 3), bad)}
    with pytest.raises(WeightsError, match=r"NaN or infinite: weight \(9 of 9\)"):
        load_weights(network, state, "file")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_of_8_bits_are_looked_at_too(dtype: torch.dtype) -> None:
    values = torch.tensor([1.0, -2.0, 0.0])
    weights.check_finite({"w": values.to(dtype)}, "file")
    values[1] = float("nan")
    with pytest.raises(WeightsError, match=r"NaN or infinite: w \(1 of 3\)"):
        weights.check_finite({"w": values.to(dtype)}, "file")


def test_a_network_without_matrices() -> None:
    norm = nn.BatchNorm2d(4)
    with pytest.raises(WeightsError, match="weight has shape 5 instead of 4"):
        load_weights(norm, nn.BatchNorm2d(5).state_dict(), "the file", new_head=True)
