"""Two thousand hostile folders: every dtype of safetensors, every kind of special file, false sizes.

Each loads rightly or ends in this package's own error, soon and in little memory.
"""

from __future__ import annotations

import json
import math
import os
import random
import resource
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from seclcompress import artefact, resolve
from seclcompress.artefact import ArtefactConfig
from seclcompress.errors import SeclcompressError

SECONDS, BYTES = 2, 2**28
FOLDERS = 2000
#: Every dtype that safetensors knows, with its bits.
BITS = {
    **{
        "BOOL": 8,
        "U8": 8,
        "I8": 8,
        "I16": 16,
        "U16": 16,
        "I32": 32,
        "U32": 32,
        "I64": 64,
        "U64": 64,
    },
    **{"F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8},
    "NEW": 8,
}
#: The dtypes in which all floating-point tensors of a network may be.
WHOLE = ("F16", "BF16", "F32", "F64")
TERABYTE = 2**40
Tensors = dict[str, tuple[str, list[int], bytes]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = resolve.locate("wrn10_0.5", num_classes=3)
    folder = tmp_path_factory.mktemp("hostile") / "net"
    artefact.save(
        folder, source.load()[0], ArtefactConfig(network=source.network, input_size=(3, 8, 8))
    )
    return folder


@pytest.fixture(scope="module", autouse=True)
def little_memory() -> Iterator[None]:
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before < BYTES


def whole(folder: Path) -> Tensors:
    """The tensors in a folder as a file has them: dtype, shape, bytes."""
    content = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + length])
    data = content[8 + length :]
    return {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
        for name, entry in about.items()
        if name != "__metadata__"
    }


def written(tensors: Tensors) -> bytes:
    """A safetensors file of any dtypes, also of those that torch cannot write."""
    about: dict[str, Any] = {}
    place = 0
    for name, (dtype, shape, data) in tensors.items():
        offsets = [place, place + len(data)]
        about[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        place += len(data)
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(data for *_, data in tensors.values())


def of_dtype(dtype: str, shape: list[int], dice: random.Random) -> tuple[str, list[int], bytes]:
    size = math.prod(shape) * BITS[dtype] // 8
    return (dtype, shape, bytes(size) if dice.random() < 0.8 else dice.randbytes(size))


Change = Callable[[Path, random.Random], None]


def one_tensor_of_another_dtype(folder: Path, dice: random.Random) -> None:
    tensors = whole(folder)
    name = dice.choice(list(tensors))
    dtype, shape, _ = tensors[name]
    tensors[name] = of_dtype(dice.choice([*BITS, *[dtype] * 9]), shape, dice)
    (folder / "model.safetensors").write_bytes(written(tensors))


def all_floats_of_another_dtype(folder: Path, dice: random.Random) -> None:
    dtype = dice.choice([*BITS, *WHOLE, *WHOLE])
    tensors = {
        name: of_dtype(dtype, shape, dice) if kind == "F32" else (kind, shape, data)
        for name, (kind, shape, data) in whole(folder).items()
    }
    (folder / "model.safetensors").write_bytes(written(tensors))


def another_shape(folder: Path, dice: random.Random) -> None:
    tensors = whole(folder)
    name = dice.choice(list(tensors))
    dtype, shape, data = tensors[name]
    changed = dice.choice(
        [shape[::-1], [*shape, 1], shape[1:], [math.prod(shape)], [2**40, 2**40], [0]]
    )
    tensors[name] = (dtype, changed, data)
    (folder / "model.safetensors").write_bytes(written(tensors))


def special_file(folder: Path, dice: random.Random) -> None:
    path = folder / dice.choice(["model.safetensors", "config.json"])
    path.unlink()
    kind = dice.choice(
        ["pipe", "socket", "folder", "device", "circle", "nowhere", "empty", "missing"]
    )
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(folder)  # the path of a socket is at most 108 bytes
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path.name)
        finally:
            os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind != "missing":
        targets = {"device": ["/dev/zero", "/dev/null", "/dev/stdin"], "circle": [path.name]}
        path.symlink_to(dice.choice(targets.get(kind, ["nowhere", "/proc/self/mem"])))


def sparse_file(folder: Path, dice: random.Random) -> None:
    path = folder / dice.choice(["model.safetensors", "config.json"])
    size = dice.choice([2**30, TERABYTE, 8 * TERABYTE])
    if path.suffix == ".safetensors" and dice.random() < 0.7:
        count = size // 4
        entry = {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}
        text = json.dumps({dice.choice(["fc.bias", "x"]): entry}).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        size = 8 + len(text) + 4 * count
    with path.open("r+b") as file:
        file.truncate(size)


def damaged_bytes(folder: Path, dice: random.Random) -> None:
    path = folder / dice.choice(["model.safetensors", "model.safetensors", "config.json"])
    content = bytearray(path.read_bytes())
    for _ in range(dice.choice([1, 1, 3])):
        content[min(int(dice.expovariate(1 / 500)), len(content) - 1)] ^= 1 << dice.randrange(8)
    path.write_bytes(content[: dice.choice([len(content), dice.randrange(len(content))])])


def another_format(folder: Path, dice: random.Random) -> None:
    """A file of torch.save is not unpickled, though its name says safetensors."""
    state = safetensors.torch.load((folder / "model.safetensors").read_bytes())
    torch.save(
        state, folder / "model.safetensors", _use_new_zipfile_serialization=dice.random() < 0.5
    )


CHANGES: list[Change] = [
    one_tensor_of_another_dtype,
    one_tensor_of_another_dtype,
    all_floats_of_another_dtype,
    all_floats_of_another_dtype,
    another_shape,
    special_file,
    sparse_file,
    damaged_bytes,
    another_format,
]


def outcome(folder: Path) -> str:
    began = time.process_time()
    try:
        network = artefact.load(folder)
    except SeclcompressError as error:
        return type(error).__name__
    finally:
        assert time.process_time() - began < SECONDS
    for tensor in network.state_dict().values():
        assert tensor.layout is torch.strided
        assert not tensor.is_meta
        if tensor.is_floating_point():
            assert tensor.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
            assert torch.isfinite(tensor).all()
    with torch.no_grad():  # what comes in can compute
        assert network(torch.ones(1, 3, 8, 8, dtype=next(network.parameters()).dtype)).shape == (
            1,
            3,
        )
    return "loaded"


@pytest.mark.parametrize("dtype", BITS)
def test_every_dtype_of_safetensors(original: Path, tmp_path: Path, dtype: str) -> None:
    """All floating-point tensors have the dtype; it is accepted or refused by name."""
    folder = copied(original, tmp_path)
    tensors = {
        name: (dtype, shape, bytes(math.prod(shape) * BITS[dtype] // 8)) if kind == "F32" else each
        for name, each in whole(original).items()
        for kind, shape, _ in [each]
    }
    (folder / "model.safetensors").write_bytes(written(tensors))
    if dtype in WHOLE:
        assert outcome(folder) == "loaded"
        return
    with pytest.raises(artefact.ArtefactError) as caught:
        artefact.load(folder)
    words = str(caught.value)
    assert "NotImplementedError" not in words
    assert "holds " in words or "is not a readable safetensors file" in words


def copied(original: Path, where: Path) -> Path:
    folder = where / "net"
    folder.mkdir()
    for file in original.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_two_thousand_folders(original: Path, tmp_path: Path) -> None:
    found: Counter[tuple[str, str]] = Counter()
    for number in range(FOLDERS):
        dice = random.Random(number)
        folder = copied(original, tmp_path)
        change = CHANGES[number % len(CHANGES)]
        change(folder, dice)
        try:
            found[change.__name__, outcome(folder)] += 1
        except BaseException:
            print(f"folder {number}: {change.__name__}")
            raise
        shutil.rmtree(folder)
    assert found.total() == FOLDERS
    for change in CHANGES:
        assert found[change.__name__, "ArtefactError"] > 50
    for loads in ("one_tensor_of_another_dtype", "all_floats_of_another_dtype"):
        assert found[loads, "loaded"] > 30
    assert not any(found[never.__name__, "loaded"] for never in (special_file, sparse_file))
