"""Checkpoints as people have them: training scripts put much beside the weights, under many names."""

from __future__ import annotations

import argparse
import collections
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import Invoke
from runs import Listening
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from seclcompress import networks, resolve
from seclcompress.errors import WeightsError
from seclcompress.networks.weights import load_weights, read_weights, reading_limit
from seclcompress.workflows import convert

State = dict[str, Tensor]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))


def filled(value: float) -> State:
    return {name: torch.full_like(tensor, value) for name, tensor in net().state_dict().items()}


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def averaged() -> Any:
    network = net()
    network.load_state_dict(filled(3))
    return AveragedModel(network).state_dict()


#: Checkpoints of known training scripts, the value of their weights, and words on what was decided.
KNOWN: dict[str, tuple[Callable[[], Any], int, str]] = {
    "torchvision's references": (
        lambda: {
            "model": filled(2),
            "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": []},
            "lr_scheduler": {"last_epoch": 3, "_last_lr": [np.float64(0.1)]},
            "epoch": 3,
            "args": argparse.Namespace(lr=0.1, data_path="/data"),
            "model_ema": averaged(),
        },
        2,
        "took the weights under 'model'. There are also model_ema: --weights-key takes those.",
    ),
    "akamaster's ResNet-20": (
        lambda: {
            "state_dict": prefixed(
                {k: v for k, v in filled(2).items() if "num_batches" not in k}, "module."
            ),
            "best_prec1": np.float64(91.7),
        },
        2,
        "",
    ),
    "timm's": (
        lambda: {"arch": "net", "state_dict": filled(2), "state_dict_ema": filled(3)},
        2,
        "There are also state_dict_ema",
    ),
    "Lightning's": (
        lambda: {
            "state_dict": {**prefixed(filled(2), "model."), "criterion.weight": torch.ones(10)},
            "hyper_parameters": collections.OrderedDict(lr=0.1),
            "callbacks": collections.defaultdict(dict),
        },
        2,
        "Left out, as only 'model.…' is the network: criterion.weight.",
    ),
    "an average alone": (
        averaged,
        3,
        "Left out, as they are no parameters: n_averaged.",
    ),
    "YOLO's": (
        lambda: {"ema": filled(3), "updates": 7},
        3,
        "took the averaged weights under 'ema'",
    ),
    "an average inside": (
        lambda: {"ema": {"module": filled(3), "decay": 0.999}},
        3,
        "took the averaged weights under 'ema.module'",
    ),
    "of torch.compile and DataParallel": (
        lambda: {"net": prefixed(filled(2), "_orig_mod.module.")},
        2,
        "",
    ),
    "a backbone's": (lambda: {"student": prefixed(filled(2), "student.backbone.")}, 2, ""),
    "with a profiler's counters": (
        lambda: {**filled(2), "0.total_ops": torch.zeros(1), "total_params": torch.zeros(1)},
        2,
        "Left out, as they are no parameters: 0.total_ops, total_params.",
    ),
    "under a key of somebody's": (lambda: {"my_own_weights": filled(2), "x": [1]}, 2, ""),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("file", ["w.pth", "w.th", "w.pth.tar", "w.bin", "w.ckpt", "w"])
@pytest.mark.parametrize("legacy", [False, True])
def test_known_checkpoints(name: str, file: str, legacy: bool, tmp_path: Path) -> None:
    make, value, words = KNOWN[name]
    torch.save(make(), tmp_path / file, _use_new_zipfile_serialization=not legacy)
    network = net()
    loaded = load_weights(network, read_weights(tmp_path / file), "the file")
    for key, tensor in network.state_dict().items():
        assert bool((tensor == value).all()) or "num_batches" in key
    assert words in " ".join(loaded.notes)
    assert bool(loaded.notes) == bool(words)
    assert loaded.untrained == []


class TestKeys:
    def test_another_one_is_taken_if_it_is_named(self) -> None:
        content = {"model": filled(2), "model_ema": averaged(), "ema": {"module": filled(5)}}
        for key, value in (("model", 2), ("model_ema", 3), ("ema.module", 5)):
            network = net()
            load_weights(network, content, "the file", key=key)
            assert network[0].bias.tolist() == [value] * 4

    def test_one_that_is_not_there(self) -> None:
        content = {"model": filled(2), "model_ema": averaged()}
        words = "has no weights under 'ema'. There are: model, model_ema"
        with pytest.raises(WeightsError, match=words):
            load_weights(net(), content, "the file", key="ema")

    def test_weights_of_another_network_are_named_with_the_nearest_key(self) -> None:
        content = {
            "optimizer": {"a": torch.zeros(2)},
            "model": {**filled(2), "more": torch.ones(2)},
        }
        with pytest.raises(WeightsError, match="does not fit the network: unexpected more"):
            load_weights(net(), content, "the file")


class TestRefused:
    def test_a_type_that_is_not_harmless_is_named(self, tmp_path: Path) -> None:
        torch.save({"state_dict": filled(2), "net": net()}, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=r"holds a torch.nn.modules\.\S+, and unpickling it"):
            read_weights(tmp_path / "w.pth")

    def test_programs(self, tmp_path: Path) -> None:
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(tmp_path / "w.pt"))
        with pytest.raises(WeightsError, match="is a TorchScript program"):
            read_weights(tmp_path / "w.pt")
        exported = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))
        torch.export.save(exported, tmp_path / "w.pt2")
        with pytest.raises(WeightsError, match="is an exported program"):
            read_weights(tmp_path / "w.pt2")

    def test_another_archive(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
            archive.writestr("a/readme", "words")
        with pytest.raises(WeightsError, match="a zip archive, but none of torch.save"):
            read_weights(tmp_path / "w.pth")

    def test_a_bomb(self, tmp_path: Path) -> None:
        written = io.BytesIO()
        torch.save({"a": torch.zeros(2**25)}, written)
        with (
            zipfile.ZipFile(written) as whole,
            zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as small,
        ):
            for name in whole.namelist():
                small.writestr(name, whole.read(name))
        size = (tmp_path / "w.pth").stat().st_size
        assert size < 2**20
        with pytest.raises(WeightsError, match=r"would unpack to 134,\d\d\d,\d\d\d"):
            read_weights(tmp_path / "w.pth")

    def test_a_header_that_declares_much(self, tmp_path: Path) -> None:
        header = b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
        with (tmp_path / "w.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(8 + len(header) + 4 * 2**40)  # sparse: it takes no space
        with pytest.raises(WeightsError, match=r"more than this machine's memory|not a readable"):
            load_weights(net(), read_weights(tmp_path / "w.safetensors"), "the file")

    def test_a_file_that_is_far_too_large_for_the_network(self, tmp_path: Path) -> None:
        torch.save(filled(2), tmp_path / "w.pth")
        with (tmp_path / "w.pth").open("r+b") as file:
            file.truncate(2**40)
        with pytest.raises(WeightsError, match="1,099,511,627,776 bytes; all that belongs to"):
            read_weights(tmp_path / "w.pth", limit=reading_limit(net()))
        with pytest.raises(WeightsError, match="1,099,511,627,776 bytes; all that belongs to"):
            resolve.locate("wrn10_1", weights=str(tmp_path / "w.pth")).load()

    def test_much_pickled_structure(self, tmp_path: Path) -> None:
        torch.save({"a": torch.zeros(1), "b": list(range(3_000_000))}, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match="bytes of pickled structure, more than"):
            read_weights(tmp_path / "w.pth")

    def test_what_the_person_has_allowed_stays_allowed(self, tmp_path: Path) -> None:
        torch.serialization.add_safe_globals([argparse.Namespace])
        try:
            torch.save(filled(2), tmp_path / "w.pth")
            read_weights(tmp_path / "w.pth")
            assert argparse.Namespace in torch.serialization.get_safe_globals()
        finally:
            torch.serialization.clear_safe_globals()


class TestDtypes:
    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda t: t.to(torch.complex64), "holds complex64 where the network has float32"),
            (lambda t: t.to(torch.bool), "holds bool where the network has float32"),
            (lambda t: t.to(torch.int64), "holds int64 where the network has float32"),
            (lambda t: t.to_sparse(), "is sparse_coo, not dense"),
            (lambda t: t.to_sparse_csr(), "is sparse_csr, not dense"),
            (lambda t: t.to("meta"), "has no values"),
            (
                lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
                r"is quantised \(qint8\)",
            ),
        ],
    )
    def test_refused_by_name(self, make: Callable[[Tensor], Tensor], words: str) -> None:
        state = filled(2)
        state["3.weight"] = make(state["3.weight"])
        before = net().state_dict()
        network = net()
        with pytest.raises(WeightsError, match=f"3.weight {words}"):
            load_weights(network, state, "the file")
        assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())

    def test_e8m0_is_refused_by_name(self) -> None:
        if not hasattr(torch, "float8_e8m0fnu"):
            pytest.skip("this torch has no such dtype")
        state = filled(2) | {"3.weight": torch.ones(10, 4).to(torch.float8_e8m0fnu)}
        with pytest.raises(WeightsError, match="holds float8_e8m0fnu"):
            load_weights(net(), state, "the file")

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
    def test_exact_ones_need_no_word(self, dtype: torch.dtype) -> None:
        state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in filled(2).items()}
        network = net()
        assert load_weights(network, state, "the file").notes == []
        assert network[3].weight.dtype == torch.float32
        assert bool((network[3].weight == 2).all())

    def test_rounding_is_said(self) -> None:
        state = {k: v.double() if v.is_floating_point() else v for k, v in filled(0.1).items()}
        loaded = load_weights(net(), state, "the file")
        assert loaded.notes == ["the file: rounded float64 to float32."]

    @pytest.mark.parametrize(
        ("value", "dtype"),
        [(2.0**140, torch.float64), (-(2.0**140), torch.float64), (float("nan"), torch.float16)],
    )
    def test_values_are_looked_at_after_the_cast(self, value: float, dtype: torch.dtype) -> None:
        state = filled(2)
        state["3.weight"] = torch.full((10, 4), value, dtype=dtype)
        with pytest.raises(WeightsError, match=r"NaN or infinite: 3.weight \(40 of 40\)"):
            load_weights(net(), state, "the file")

    def test_complex_networks(self) -> None:
        network = nn.Linear(2, 2, dtype=torch.complex64)
        state = {k: v.detach().clone() for k, v in network.state_dict().items()}
        load_weights(network, state, "the file")
        state["bias"][0] = complex(0, float("nan"))
        with pytest.raises(WeightsError, match=r"NaN or infinite: bias \(1 of 2\)"):
            load_weights(network, state, "the file")

    def test_whole_numbers(self) -> None:
        state = filled(2)
        state["1.num_batches_tracked"] = torch.tensor(7, dtype=torch.int32)
        network = net()
        assert load_weights(network, state, "the file").notes == []
        assert int(network[1].num_batches_tracked) == 7
        state["1.num_batches_tracked"] = torch.tensor(7.0)
        with pytest.raises(WeightsError, match="holds float32 where the network has int64"):
            load_weights(net(), state, "the file")


class TestThroughTheProgram:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def checkpoint(self, classes: int = 10) -> State:
        spec = networks.named_spec("wrn10_1", classes)
        return networks.build_untrained(spec, seed=5).state_dict()

    def test_which_were_taken_is_said(self, invoke: Invoke) -> None:
        ema = {name: tensor * 0 for name, tensor in self.checkpoint().items()}
        torch.save({"model": self.checkpoint(), "model_ema": ema}, "w.ckpt")
        told = Listening()
        convert("wrn10_1", "a", weights="w.ckpt", observer=told)
        assert any("took the weights under 'model'" in words for words in told.words)
        result = invoke(
            *"convert wrn10_1 --weights w.ckpt --weights-key model_ema -o b --depth 2".split()
        )
        assert "took the averaged weights under 'model_ema'" in " ".join(result.stderr.split())
        kept = safetensors.torch.load_file("b/model.safetensors")
        assert not kept["fc.weight"].any()
        result = invoke(*"convert wrn10_1 --weights w.ckpt --weights-key ema -o c".split(), code=1)
        assert "There are: model, model_ema" in result.stderr

    def test_a_key_without_a_file(self, invoke: Invoke) -> None:
        result = invoke(*"convert wrn10_1 --weights-key model -o c".split(), code=2)
        assert "--weights-key model needs --weights" in result.stderr

    def test_a_new_head_where_a_number_of_classes_was_chosen(self, invoke: Invoke) -> None:
        torch.save(self.checkpoint(1000), "w.pth")
        result = invoke(*"convert wrn10_1 --weights w.pth --num-classes 7 -o a".split())
        assert "Fresh, for another number of classes: fc.weight, fc.bias." in result.stderr
        result = invoke(*"convert wrn10_1 --weights w.pth -o b".split(), code=1)
        assert "If only the number of classes differs, say it with --num-classes." in result.stderr

    def test_weights_that_do_not_fit_are_said_before_the_plan(self, invoke: Invoke) -> None:
        torch.save({"a": torch.zeros(2)}, "w.pth")
        result = invoke(*"convert wrn10_1 --weights w.pth -o b".split(), code=1)
        assert "does not fit the network" in result.stderr
        assert "group1" not in result.stdout
        with pytest.raises(WeightsError):
            resolve.locate("wrn10_1", weights="w.pth").load()
