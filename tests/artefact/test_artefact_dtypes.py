"""Saved folders with every dtype that safetensors knows, and special files in place of the weights.

They load rightly, or end in our own errors: never raw, never for want of memory, never waiting.
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import sys
from pathlib import Path

import pytest
import torch

from seclcompress import artefact, resolve
from seclcompress.artefact import ArtefactConfig
from seclcompress.errors import ArtefactError
from seclcompress.plan import PlanOptions, make_plan
from seclcompress.rewrite import rewrite_network
from seclcompress.trace import trace_network

#: Bits of an element of each dtype that safetensors knows, and one that it does not.
BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64, "X99": 8,
}  # fmt: skip
#: In these a network of floating-point numbers can run, if all of them have one.
RUNS = {"F16", "BF16", "F32", "F64"}
WEIGHTS = "model.safetensors"

Described = dict[str, tuple[str, list[int], bytes]]


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
    copied = tmp_path / "net"
    copied.mkdir()
    for file in original.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    return copied


def read(path: Path) -> Described:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    found: Described = {}
    for name, about in header.items():
        if name != "__metadata__":
            begin, end = (8 + length + place for place in about["data_offsets"])
            found[name] = (about["dtype"], about["shape"], content[begin:end])
    return found


def write(path: Path, tensors: Described) -> None:
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        place = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": place}
        data += content
    text = json.dumps(header).encode()
    path.unlink(missing_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def retyped(about: tuple[str, list[int], bytes], dtype: str) -> tuple[str, list[int], bytes]:
    _, shape, _ = about
    count = 1
    for side in shape:
        count *= side
    return dtype, shape, bytes(-(-count * BITS[dtype] // 8))


def outcome(folder: Path) -> str:
    try:
        artefact.load(folder)
    except ArtefactError:
        return "refused"
    return "loaded"


@pytest.mark.parametrize("dtype", BITS)
def test_one_tensor_of_another_dtype(folder: Path, dtype: str) -> None:
    tensors = read(folder / WEIGHTS)
    name = next(name for name, (own, _, _) in tensors.items() if own == "F32")
    tensors[name] = retyped(tensors[name], dtype)
    write(folder / WEIGHTS, tensors)
    assert outcome(folder) == ("loaded" if dtype == "F32" else "refused")


@pytest.mark.parametrize("dtype", BITS)
def test_all_floating_point_tensors_of_another_dtype(folder: Path, dtype: str) -> None:
    tensors = read(folder / WEIGHTS)
    for name, about in tensors.items():
        if about[0] == "F32":
            tensors[name] = retyped(about, dtype)
    write(folder / WEIGHTS, tensors)
    assert outcome(folder) == ("loaded" if dtype in RUNS else "refused")
    if dtype in RUNS:
        network = artefact.load(folder)
        images = torch.zeros(1, 3, 32, 32, dtype=next(network.parameters()).dtype)
        assert network(images).shape == (1, 10)


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
    assert outcome(folder) == "refused"


@pytest.mark.parametrize("size", [2**40, 8 * 2**40])
def test_a_sparse_file_of_terabytes(folder: Path, size: int) -> None:
    try:
        sparse(folder / WEIGHTS, size)
    except OSError:
        pytest.skip("this file system has no such files")
    assert outcome(folder) == "refused"


@pytest.mark.parametrize(
    "seeds", [range(100), pytest.param(range(100, 2000), marks=pytest.mark.slow)]
)
def test_two_thousand_folders(original: Path, tmp_path: Path, seeds: range) -> None:
    """Random dtypes, shapes and lengths; whatever loads computes finite numbers of the right shape."""
    folder = tmp_path / "net"
    folder.mkdir()
    for file in original.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    whole = read(folder / WEIGHTS)
    counts = {"loaded": 0, "refused": 0}
    for seed in seeds:
        draw = random.Random(seed)
        tensors = dict(whole)
        for name in draw.sample([*tensors], draw.choice([0, 0, 1, 2, 5])):
            tensors[name] = retyped(tensors[name], draw.choice([*BITS]))
        if draw.random() < 0.1:
            name = draw.choice([*tensors])
            dtype, shape, content = tensors[name]
            tensors[name] = (dtype, [*shape, draw.choice([0, 1, 2, 2**31, 2**62])], content)
        write(folder / WEIGHTS, tensors)
        if draw.random() < 0.1:
            size = (folder / WEIGHTS).stat().st_size
            sparse(
                folder / WEIGHTS, draw.choice([0, 7, 8, 9, size // 2, size - 1, size + 1, 2**33])
            )
        counts[outcome(folder)] += 1
    assert counts["loaded"] > len(seeds) / 10
    assert counts["refused"] > len(seeds) / 10
