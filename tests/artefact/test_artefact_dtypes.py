"""Saved folders with every dtype that safetensors knows, and special files in place of the weights.

They load rightly, or end in our own errors: never raw, never for want of memory, never waiting.
"""

from __future__ import annotations

import os
import random
import socket
import sys
from pathlib import Path

import pytest
import torch
from strange_folders import BITS, RUNS, WEIGHTS, copied, outcome, read, write, zeros

from seclcompress import artefact, resolve
from seclcompress.artefact import ArtefactConfig
from seclcompress.errors import ArtefactError
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.rewrite import rewrite_network
from seclcompress.trace import trace_network

CLASSES = 10


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = resolve.locate("wrn10_0.25")
    network, _ = source.load()
    plan = make_plan(
        network, trace_network(network, source.input_size), PlanOptions(config={"depth": 2})
    )
    rewrite_network(network, plan)
    folder = tmp_path_factory.mktemp("dtypes") / "net"
    about = ArtefactConfig(network=source.network, plan=plan, input_size=source.input_size)
    artefact.save(folder, network, about)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return copied(original, tmp_path)


@pytest.mark.parametrize("dtype", BITS)
def test_one_tensor_of_another_dtype(folder: Path, dtype: str) -> None:
    tensors = read(folder)
    name = next(name for name, (own, _, _) in tensors.items() if own == "F32")
    tensors[name] = zeros(dtype, tensors[name][1])
    write(folder, tensors, aligned=False)
    assert outcome(folder, CLASSES) == ("loaded" if dtype == "F32" else "ArtefactError")


@pytest.mark.parametrize("dtype", BITS)
def test_all_floating_point_tensors_of_another_dtype(folder: Path, dtype: str) -> None:
    tensors = read(folder)
    for name, (own, shape, _) in tensors.items():
        if own == "F32":
            tensors[name] = zeros(dtype, shape)
    write(folder, tensors, aligned=False)
    assert outcome(folder, CLASSES) == ("loaded" if dtype in RUNS else "ArtefactError")
    if dtype in RUNS:
        network = artefact.load(folder)
        images = torch.zeros(1, 3, 32, 32, dtype=RUNS[dtype])
        assert network(images).shape == (1, 10)
        return
    with pytest.raises(ArtefactError) as caught:
        artefact.load(folder)
    words = str(caught.value)
    assert "NotImplementedError" not in words
    assert "holds " in words or "is not a readable safetensors file" in words


def sparse(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


SPECIAL = {
    "a pipe": lambda path: os.mkfifo(path),
    "a folder": lambda path: path.mkdir(),
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "nothing": lambda path: None,
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("file", [WEIGHTS, "config.json"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_special_files(folder: Path, kind: str, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)  # the path of a socket must be short
    Path(file).unlink()
    SPECIAL[kind](Path(file))
    assert outcome(folder, CLASSES) == "ArtefactError"


@pytest.mark.parametrize("size", [2**40, 8 * 2**40])
def test_a_sparse_file_of_terabytes(folder: Path, size: int) -> None:
    try:
        sparse(folder / WEIGHTS, size)
    except OSError:
        pytest.skip("this file system has no such files")
    assert outcome(folder, CLASSES) == "ArtefactError"


@pytest.mark.parametrize(
    "seeds",
    [
        range(100),
        pytest.param(range(100, 500), marks=pytest.mark.slow),
        pytest.param(range(500, 2000), marks=pytest.mark.exhaustive),
    ],
)
def test_two_thousand_folders(original: Path, tmp_path: Path, seeds: range) -> None:
    """Random dtypes, shapes and lengths; whatever loads computes finite numbers of the right shape."""
    folder = copied(original, tmp_path)
    whole = read(folder)
    counts = {"loaded": 0, "ArtefactError": 0}
    for seed in seeds:
        draw = random.Random(seed)
        tensors = dict(whole)
        for name in draw.sample([*tensors], draw.choice([0, 0, 1, 2, 5])):
            tensors[name] = zeros(draw.choice([*BITS]), tensors[name][1])
        if draw.random() < 0.1:
            name = draw.choice([*tensors])
            dtype, shape, content = tensors[name]
            tensors[name] = (dtype, [*shape, draw.choice([0, 1, 2, 2**31, 2**62])], content)
        write(folder, tensors, aligned=False)
        if draw.random() < 0.1:
            size = (folder / WEIGHTS).stat().st_size
            sparse(
                folder / WEIGHTS, draw.choice([0, 7, 8, 9, size // 2, size - 1, size + 1, 2**33])
            )
        counts[outcome(folder, CLASSES)] += 1
    assert counts["loaded"] > len(seeds) / 10
    assert counts["ArtefactError"] > len(seeds) / 10
