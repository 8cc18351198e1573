"""Checkpoints as training scripts leave them: what is taken of each, and what is said about it."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from seclcompress import networks
from seclcompress.errors import WeightsError
from seclcompress.networks.weights import Loaded, load_weights, read_weights

NAME = "wrn10_1"
SECONDS = 2
State = dict[str, Tensor]


def state(seed: int) -> State:
    return networks.build_untrained(networks.named_spec(NAME), seed=seed).state_dict()


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    return {prefix + name: value for name, value in tensors.items()}


def without_counters(tensors: Mapping[str, Tensor]) -> State:
    return {name: v for name, v in tensors.items() if "num_batches_tracked" not in name}


RAW, AVERAGED = state(1), state(2)
OPTIMIZER = {
    "state": {0: {"exp_avg": torch.zeros(16, 3, 3, 3), "step": torch.tensor(3.0)}},
    "param_groups": [{"lr": 0.1, "params": [0]}],
}


def loaded(folder: Path, content: Any, expected: State, **options: Any) -> Loaded:
    """Loads a checkpoint by way of a file, and checks that the network has the expected weights."""
    torch.save(content, folder / "file")
    network = networks.build_untrained(networks.named_spec(NAME), seed=9)
    done = load_weights(network, read_weights(folder / "file"), "file", **options)
    found = network.state_dict()
    assert all(
        torch.equal(found[name], value) for name, value in without_counters(expected).items()
    )
    return done


def averaged_model() -> State:
    """What torchvision's reference script calls `model_ema`: an AveragedModel, with its count."""
    network = networks.build(networks.named_spec(NAME))
    network.load_state_dict(AVERAGED)
    return AveragedModel(
        network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True
    ).state_dict()


class TestPublicScripts:
    """The layout of each public script's checkpoints."""

    def test_torchvisions_reference_script(self, tmp_path: Path) -> None:
        content = {
            "model": RAW,
            "optimizer": OPTIMIZER,
            "lr_scheduler": {"_schedulers": [{"last_epoch": 3}], "_milestones": [5]},
            "args": argparse.Namespace(lr=0.5, model="resnet50", norm_weight_decay=None),
            "epoch": 3,
            "model_ema": averaged_model(),
            "scaler": {"scale": 65536.0, "_growth_tracker": 0},
        }
        assert loaded(tmp_path, content, RAW).words() == (
            "file: the weights under 'model' were taken; averaged weights are there too, for "
            "--weights-key model_ema.module."
        )
        for key in ("model_ema", "model_ema.module"):
            assert loaded(tmp_path, content, AVERAGED, key=key).words() == (
                "file: the weights under 'model_ema', which is averaged over training, were taken; "
                "'module.' was taken off each name; left out, as it is none of the network's: "
                "n_averaged."
            )
        assert loaded(tmp_path, content, RAW, key="model").key == "model"

    def test_akamasters_resnets(self, tmp_path: Path) -> None:
        content = {
            "state_dict": prefixed("module.", without_counters(RAW)),
            "best_prec1": np.float64(92.6),
        }
        assert loaded(tmp_path, content, RAW).words() == (
            "file: the weights under 'state_dict' were taken; 'module.' was taken off each name; "
            "num_batches_tracked is missing and starts at 0."
        )

    def test_timms(self, tmp_path: Path) -> None:
        content = {"epoch": 3, "arch": "resnet", "state_dict": RAW, "state_dict_ema": AVERAGED}
        assert loaded(tmp_path, content, RAW).others == ("state_dict_ema",)
        assert loaded(tmp_path, content, AVERAGED, key="state_dict_ema").is_averaged

    def test_lightnings(self, tmp_path: Path) -> None:
        tensors = {**prefixed("model.", RAW), "criterion.weight": torch.ones(10)}
        content = {"state_dict": tensors, "callbacks": {"best": {"score": torch.tensor(0.5)}}}
        assert loaded(tmp_path, content, RAW).words() == (
            "file: the weights under 'state_dict' were taken; 'model.' was taken off each name; left "
            "out, as it is none of the network's: criterion.weight."
        )
        tensors |= prefixed("ema_model.module.", AVERAGED)
        found = loaded(tmp_path, content, RAW)
        assert found.others == ("state_dict.ema_model.module",)
        assert (
            loaded(tmp_path, content, AVERAGED, key=found.others[0]).prefix == "ema_model.module."
        )

    def test_like_yolos(self, tmp_path: Path) -> None:
        content = {"model": None, "ema": AVERAGED, "updates": 3, "optimizer": OPTIMIZER}
        assert loaded(tmp_path, content, AVERAGED).words() == (
            "file: the weights under 'ema', which is averaged over training, were taken."
        )

    def test_like_maes(self, tmp_path: Path) -> None:
        content = {"model": RAW, "optimizer": OPTIMIZER, "epoch": 3, "scaler": {}, "args": None}
        assert loaded(tmp_path, content, RAW).key == "model"

    def test_like_dinos(self, tmp_path: Path) -> None:
        """Student and teacher fit alike, and nothing says which is meant."""
        content = {
            "student": prefixed("module.backbone.", RAW),
            "teacher": prefixed("backbone.", AVERAGED),
        }
        words = (
            "file holds 2 different sets of weights that fit the network, under "
            "'student.module.backbone', 'teacher.backbone'. Name one with --weights-key."
        )
        with pytest.raises(WeightsError, match=words):
            loaded(tmp_path, content, RAW)
        assert loaded(tmp_path, content, RAW, key="student").prefix == "module.backbone."
        assert loaded(tmp_path, content, AVERAGED, key="teacher").prefix == "backbone."

    def test_an_averaged_model_alone(self, tmp_path: Path) -> None:
        found = loaded(tmp_path, averaged_model(), AVERAGED)
        assert found.is_averaged
        assert found.left_out == ("n_averaged",)


@pytest.mark.parametrize(
    "key",
    ["state_dict", "model", "net", "ema", "weights", "student", "model_state", "network", "module",
     "state_dict_ema", "model_ema", "model_state_dict", "anything"],
)  # fmt: skip
def test_any_key(tmp_path: Path, key: str) -> None:
    assert loaded(tmp_path, {key: RAW, "epoch": 3}, RAW).key == key
    nested = {"checkpoint": {key: {"module": RAW}}}
    assert loaded(tmp_path, nested, RAW).key == f"checkpoint.{key}.module"


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "net.", "backbone.", "module._orig_mod.", "_orig_mod.module.",
     "a.b.c.d.", "0."],
)  # fmt: skip
def test_any_prefix(tmp_path: Path, prefix: str) -> None:
    assert loaded(tmp_path, prefixed(prefix, RAW), RAW).prefix == prefix


def test_nothing_is_said_about_a_plain_file(tmp_path: Path) -> None:
    assert loaded(tmp_path, RAW, RAW).words() == ""


def test_a_network_with_a_wrapper_of_its_own() -> None:
    inner = nn.Linear(2, 2)
    for names in (["model"], ["module", "model"]):
        outer: nn.Module = nn.Linear(2, 2)
        for name in names:
            outer = nn.ModuleDict({name: outer})
        found = load_weights(outer, inner.state_dict(), "file")
        prefix = "".join(f"{name}." for name in reversed(names))
        assert found.words() == f"file: '{prefix}' was put before each name."
        assert torch.equal(outer.state_dict()[f"{prefix}weight"], inner.weight)
        other = prefixed("net.", inner.state_dict())
        assert load_weights(outer, other, "file").prefix == "net."


def test_a_part_of_another_network_does_not_pass_for_a_network() -> None:
    own = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(WeightsError, match=r"unexpected 1\.weight, 1\.bias"):
        load_weights(own, nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).state_dict(), "file")
    with pytest.raises(WeightsError, match=r"unexpected 2\.weight"):
        load_weights(own, {**own.state_dict(), "2.weight": torch.ones(2)}, "file")
    two = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    with pytest.raises(
        WeightsError, match="2 different sets of weights that fit the network, under 'a'"
    ):
        load_weights(nn.Linear(2, 2), two.state_dict(), "file")


def test_names_of_its_own_stay() -> None:
    own = nn.ModuleDict({"module": nn.Linear(2, 2)})
    assert load_weights(own, own.state_dict(), "file").words() == ""


def test_the_same_weights_twice_are_no_question(tmp_path: Path) -> None:
    content = {"model": RAW, "best": copy.deepcopy(RAW), "state_dict": RAW}
    assert loaded(tmp_path, content, RAW).key == "model"
    content["best"] = AVERAGED
    with pytest.raises(WeightsError, match="under 'model', 'best'"):
        loaded(tmp_path, content, RAW)


def test_only_what_fits_is_a_candidate(tmp_path: Path) -> None:
    content = {"discriminator": nn.Linear(3, 3).state_dict(), "generator": RAW}
    assert loaded(tmp_path, content, RAW).key == "generator"


def test_what_tools_leave_in_a_state_is_left_out(tmp_path: Path) -> None:
    content = {**RAW, "total_ops": torch.zeros(1), "conv1.total_params": torch.zeros(1), "epoch": 3}
    found = loaded(tmp_path, content, RAW)
    assert found.left_out == ("total_ops", "conv1.total_params", "epoch")
    assert found.words().endswith("none of the network's: total_ops, conv1.total_params, epoch.")


def test_counters_that_a_network_does_not_have() -> None:
    """As where torchvision's detectors have constant batch norms."""
    own = nn.BatchNorm2d(4)
    content = own.state_dict()
    own.num_batches_tracked = None
    assert load_weights(own, content, "file").left_out == ("num_batches_tracked",)


class TestKey:
    def test_that_is_not_there(self, tmp_path: Path) -> None:
        content = {"model": RAW, "ema": {"module": AVERAGED}, "optimizer": OPTIMIZER}
        words = "file has no weights under --weights-key best; it has 'ema.module', 'model'."
        with pytest.raises(WeightsError, match=words):
            loaded(tmp_path, content, RAW, key="best")
        with pytest.raises(
            WeightsError, match="under --teacher-weights-key x; it has no further keys"
        ):
            loaded(tmp_path, RAW, RAW, key="x", option="--teacher-weights-key")

    def test_that_does_not_fit(self, tmp_path: Path) -> None:
        content = {"model": RAW, "head": nn.Linear(3, 3).state_dict()}
        with pytest.raises(
            WeightsError, match="does not fit the network under 'head': missing conv1.w"
        ):
            loaded(tmp_path, content, RAW, key="head")

    def test_with_dots_in_it(self, tmp_path: Path) -> None:
        content = {"a.b": RAW, "a": {"c": AVERAGED}}
        assert loaded(tmp_path, content, RAW, key="a.b").key == "a.b"
        assert loaded(tmp_path, content, AVERAGED, key="a.c").key == "a.c"


class TestMisfits:
    def test_the_nearest_is_described(self, tmp_path: Path) -> None:
        near = {name: value for name, value in RAW.items() if name != "fc.bias"}
        content = {"optimizer": OPTIMIZER, "model": prefixed("module.", near)}
        words = "file does not fit the network under 'model.module': missing fc.bias."
        with pytest.raises(WeightsError, match=words):
            loaded(tmp_path, content, RAW)

    def test_something_else_in_the_place_of_a_tensor(self, tmp_path: Path) -> None:
        content = {**RAW, "fc.bias": np.ones(10)}
        words = r"missing fc.bias \(there is an object of type numpy.ndarray instead of a tensor\)"
        with pytest.raises(WeightsError, match=words):
            loaded(tmp_path, content, RAW)

    def test_no_tensors_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(
            WeightsError, match="no tensors by name.* under 'a' it holds an object of"
        ):
            loaded(tmp_path, {"a": 3}, RAW)

    def test_no_names(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="does not fit the network: missing conv1.weight"):
            loaded(tmp_path, {0: torch.ones(3), "a" * 2000: torch.ones(3)}, RAW)

    def test_dictionaries_without_end(self, tmp_path: Path) -> None:
        content: dict[str, Any] = {"model": prefixed("x.", {"y": torch.ones(1)})}
        content["again"] = content
        for number in range(300):
            content[f"k{number}"] = content
        began = time.process_time()
        with pytest.raises(WeightsError, match="does not fit the network"):
            load_weights(nn.Linear(2, 2), content, "file")
        assert time.process_time() - began < SECONDS

    def test_names_of_nothing_but_dots(self) -> None:
        content = {"." * 200_000 + str(number): torch.ones(1) for number in range(9)}
        began = time.process_time()
        with pytest.raises(WeightsError, match="does not fit the network"):
            load_weights(nn.Linear(2, 2), content, "file")
        assert time.process_time() - began < SECONDS
