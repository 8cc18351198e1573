"""Two thousand hostile folders, each with one fault: dtypes, special files, false shapes and sizes.

Each loads rightly or ends in this package's own error, soon and in little memory.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from memory import grows_by_less_than
from strange_folders import BITS, RUNS, WEIGHTS, Described, copied, outcome, read, size_of, write

from seclcompress import artefact, resolve
from seclcompress.artefact import ArtefactConfig

BYTES = 2**28
CLASSES = 3
TERABYTE = 2**40


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = resolve.locate("wrn10_0.5", num_classes=CLASSES)
    folder = tmp_path_factory.mktemp("hostile") / "net"
    artefact.save(
        folder, source.load()[0], ArtefactConfig(network=source.network, input_size=(3, 8, 8))
    )
    return folder


@pytest.fixture(scope="module", autouse=True)
def little_memory() -> Iterator[None]:
    with grows_by_less_than(BYTES):
        yield


def filled(dtype: str, shape: list[int], dice: random.Random) -> Described:
    size = size_of(dtype, shape)
    return dtype, shape, bytes(size) if dice.random() < 0.8 else dice.randbytes(size)


Change = Callable[[Path, random.Random], None]


def one_tensor_of_another_dtype(folder: Path, dice: random.Random) -> None:
    tensors = read(folder)
    name = dice.choice(list(tensors))
    dtype, shape, _ = tensors[name]
    tensors[name] = filled(dice.choice([*BITS, *[dtype] * 9]), shape, dice)
    write(folder, tensors)


def all_floats_of_another_dtype(folder: Path, dice: random.Random) -> None:
    dtype = dice.choice([*BITS, *RUNS, *RUNS])
    tensors = {
        name: filled(dtype, shape, dice) if kind == "F32" else (kind, shape, data)
        for name, (kind, shape, data) in read(folder).items()
    }
    write(folder, tensors)


def another_shape(folder: Path, dice: random.Random) -> None:
    tensors = read(folder)
    name = dice.choice(list(tensors))
    dtype, shape, data = tensors[name]
    changed = dice.choice(
        [shape[::-1], [*shape, 1], shape[1:], [math.prod(shape)], [2**40, 2**40], [0]]
    )
    tensors[name] = (dtype, changed, data)
    write(folder, tensors)


def special_file(folder: Path, dice: random.Random) -> None:
    path = folder / dice.choice([WEIGHTS, "config.json"])
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
    path = folder / dice.choice([WEIGHTS, "config.json"])
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
    path = folder / dice.choice([WEIGHTS, WEIGHTS, "config.json"])
    content = bytearray(path.read_bytes())
    for _ in range(dice.choice([1, 1, 3])):
        content[min(int(dice.expovariate(1 / 500)), len(content) - 1)] ^= 1 << dice.randrange(8)
    path.write_bytes(content[: dice.choice([len(content), dice.randrange(len(content))])])


def another_format(folder: Path, dice: random.Random) -> None:
    """A file of torch.save is not unpickled, though its name says safetensors."""
    state = safetensors.torch.load((folder / WEIGHTS).read_bytes())
    torch.save(state, folder / WEIGHTS, _use_new_zipfile_serialization=dice.random() < 0.5)


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


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param(range(500), marks=pytest.mark.slow),
        pytest.param(range(500, 2000), marks=pytest.mark.exhaustive),
    ],
    ids=str,
)
def test_two_thousand_folders(original: Path, tmp_path: Path, numbers: range) -> None:
    found: Counter[tuple[str, str]] = Counter()
    for number in numbers:
        dice = random.Random(number)
        folder = copied(original, tmp_path)
        change = CHANGES[number % len(CHANGES)]
        change(folder, dice)
        try:
            found[change.__name__, outcome(folder, CLASSES)] += 1
        except BaseException:
            print(f"folder {number}: {change.__name__}")
            raise
        shutil.rmtree(folder)
    assert found.total() == len(numbers)
    for change in CHANGES:
        assert found[change.__name__, "ArtefactError"] > len(numbers) / 40
    for loads in ("one_tensor_of_another_dtype", "all_floats_of_another_dtype"):
        assert found[loads, "loaded"] > 3 * len(numbers) / 200
    assert not any(found[never.__name__, "loaded"] for never in (special_file, sparse_file))
