"""A weights file is known by its bytes: any ending will do, and what it is not is said in words."""

from __future__ import annotations

import gzip
import os
import pickle
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from seclcompress.errors import WeightsError
from seclcompress.networks.weights import read_weights

STATE = {"weight": torch.arange(6.0).reshape(2, 3)}


def as_safetensors(path: Path) -> None:
    safetensors.torch.save_file(STATE, path)


def as_archive(path: Path) -> None:
    torch.save(STATE, path)


def as_legacy(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [as_safetensors, as_archive, as_legacy])
@pytest.mark.parametrize(
    "name", ["w", "w.th", "w.pth", "w.pt", "w.pth.tar", "w.bin", "w.ckpt", "w.txt"]
)
def test_any_ending(tmp_path: Path, write: Callable[[Path], None], name: str) -> None:
    write(tmp_path / name)
    found = read_weights(tmp_path / name)
    assert found.keys() == STATE.keys()
    assert torch.equal(found["weight"], STATE["weight"])


def test_a_torch_file_that_is_called_safetensors(tmp_path: Path) -> None:
    """torch.load would hand it to the safetensors library, by its ending."""
    for write in (as_archive, as_legacy):
        write(tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"is a .*torch.* called \.safetensors. Rename it"):
            read_weights(tmp_path / "w.safetensors")
    as_safetensors(tmp_path / "w.safetensors")
    assert read_weights(tmp_path / "w.safetensors").keys() == STATE.keys()


def as_tar(path: Path) -> None:
    (path.parent / "inside").write_text("x")
    with tarfile.open(path, "w") as file:
        file.add(path.parent / "inside", "inside")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.touch(), "is damaged: it is empty"),
        (lambda path: path.write_bytes(b"text"), "begins with b'text'. Known are"),
        (lambda path: path.write_bytes(bytes(64)), "is damaged or no weights file"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        (lambda path: path.write_text("<!DOCTYPE html><html></html>"), "a web page"),
        (lambda path: path.write_text('{"weight_map": {}}'), "a JSON text, perhaps a list of shards"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(9)), "an HDF5 file, as Keras"),
        (lambda path: path.write_bytes(gzip.compress(b"x")), "compressed by gzip; unpack it first"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "a pickle that torch.save did not"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "a NumPy array"),
        (as_tar, "a tar archive; unpack it first"),
    ],
)  # fmt: skip
def test_what_it_is_instead(tmp_path: Path, write: Callable[[Path], object], words: str) -> None:
    write(tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="w.pth") as caught:
        read_weights(tmp_path / "w.pth")
    assert words in str(caught.value)


def test_archives_that_torch_did_not_save(tmp_path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "script.pth"))
    with pytest.raises(WeightsError, match=r"is a TorchScript archive.*save its weights alone"):
        read_weights(tmp_path / "script.pth")
    program = torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.export.save(program, tmp_path / "program.pt2")
    with pytest.raises(WeightsError, match="is an exported program of torch.export"):
        read_weights(tmp_path / "program.pt2")
    np.savez(tmp_path / "arrays.npz", weight=np.ones(3))
    with pytest.raises(WeightsError, match=r"is a NumPy archive .* it holds weight.npy"):
        read_weights(tmp_path / "arrays.npz")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no weights file .*nowhere\\."):
        read_weights(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match="There is no weights file .*: embedded null"):
        read_weights(tmp_path / "a\0b")
    as_safetensors(tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"it is a folder. Did you mean .*model.safetensors\?"):
        read_weights(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="it is a named pipe"):
        read_weights(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(WeightsError, match="it is a socket"):
            read_weights(tmp_path / "s")
    with pytest.raises(WeightsError, match="it is a device"):
        read_weights(Path("/dev/zero"))
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(WeightsError, match="There is no weights file"):
        read_weights(tmp_path / "circle")
