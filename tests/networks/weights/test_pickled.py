"""Objects beside the weights: harmless ones are passed over without being built, others are named."""

from __future__ import annotations

import argparse
import collections
import datetime
import fractions
import pathlib
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from seclcompress.errors import WeightsError
from seclcompress.networks.weights import read_weights
from seclcompress.networks.weights.pickled import Inert


@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, output_dir=pathlib.PurePosixPath("x"), betas=(0.9, 0.99)),
        np.float64(91.25),
        np.float32(0.5),
        np.int64(3),
        np.bool_(True),
        np.arange(3.0),
        np.dtype("float32"),
        pathlib.PosixPath("runs/3"),
        datetime.datetime(2024, 1, 2),
        collections.defaultdict(list, {"loss": [1.0, 2.0]}),
        collections.deque([1, 2], maxlen=4),
        collections.Counter("aab"),
        {1, 2},
        {"args": argparse.Namespace(best=np.float32(3))},
        torch.Size([1, 2]),
        torch.device("cpu"),
        torch.float16,
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("legacy", [False, True])
def test_harmless_objects(tmp_path: Path, beside: Any, legacy: bool) -> None:
    content = {"model": {"weight": torch.ones(2)}, "beside": beside}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    assert read_weights(tmp_path / "w.pth")["model"]["weight"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "module",
    ["pytorch_lightning.utilities.parsing", "lightning_fabric.utilities.data",
     "lightning.fabric.utilities.data"],
)  # fmt: skip
def test_hyperparameters_of_lightning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """Its dictionaries become plain ones, whether it is installed or not."""
    kind = type("AttributeDict", (dict,), {"__module__": module})
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        name = ".".join(parts[:length])
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules[module], "AttributeDict", kind, raising=False)
    content = {"state_dict": {"w": torch.ones(1)}, "hyper_parameters": kind(lr=0.1)}
    torch.save(content, tmp_path / "w.ckpt")
    found = read_weights(tmp_path / "w.ckpt")
    assert found["hyper_parameters"] == {"lr": 0.1}
    assert type(found["hyper_parameters"]) is dict


def test_they_are_not_built(tmp_path: Path) -> None:
    content = {"args": argparse.Namespace(lr=1), "best": np.float64(3), "w": torch.ones(1)}
    torch.save(content, tmp_path / "w.pth")
    found = read_weights(tmp_path / "w.pth")
    assert type(found["args"]).__mro__[1] is type(found["best"]).__mro__[1] is Inert
    assert found["args"].stands_for == "argparse.Namespace"
    assert not vars(found["args"])


def test_the_persons_own_safe_types_stay_safe(tmp_path: Path) -> None:
    with torch.serialization.safe_globals([argparse.Namespace, fractions.Fraction]):
        before = set(torch.serialization.get_safe_globals())
        torch.save({"args": argparse.Namespace(), "w": torch.ones(1)}, tmp_path / "w.pth")
        read_weights(tmp_path / "w.pth")
        assert set(torch.serialization.get_safe_globals()) == before
        assert torch.load(tmp_path / "w.pth", weights_only=True)["args"] == argparse.Namespace()


class Evil:
    def __reduce__(self) -> tuple:
        return (Path("evil").touch, ())


class Script:
    def __reduce__(self) -> tuple:
        return (eval, ("__import__('pathlib').Path('evil').touch()",))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("what", "words"),
    [
        (Evil(), "getattr"),
        (Script(), "eval"),
        (nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear"),
        (fractions.Fraction(1, 2), r"fractions\.Fraction"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_stops_a_safe_load_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: Any, words: str, legacy: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"model": {"weight": torch.ones(2)}, "what": what}
    torch.save(content, "w.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        WeightsError, match=rf"an object made by {words} beside tensors.*refused"
    ) as caught:
        read_weights(Path("w.pth"))
    assert "torch.save({'state_dict': model.state_dict()}, FILE)" in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not Path("evil").exists()


def test_a_pickle_with_code_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("raw.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(WeightsError, match="a pickle that torch.save did not write"):
        read_weights(Path("raw.pth"))
    assert not Path("evil").exists()


def test_another_protocol(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "s": "é"}, tmp_path / "w.pth", pickle_protocol=4)
    with pytest.raises(WeightsError, match=r"pickled in a way .* save its weights: torch.save"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "holds an object of type list, not weights by name"),
        (argparse.Namespace(), "holds an object of type argparse.Namespace"),
        ({}, "holds an empty dictionary"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=words):
        read_weights(tmp_path / "w.pt")
