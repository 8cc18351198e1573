"""Folders as strangers may send them: copies with weights of any dtype, and what becomes of them."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any, TypeAlias

import torch

from seclcompress import artefact
from seclcompress.errors import SeclcompressError

WEIGHTS = "model.safetensors"
#: Bits of an element of each dtype that safetensors knows, and one that it does not.
BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64, "X99": 8,
}  # fmt: skip
#: In these a network of floating-point numbers can run, if all of them have one.
RUNS = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
#: Processor time that a folder may take.
_SECONDS = 2

#: A tensor as a file has it: dtype, shape, bytes.
Described: TypeAlias = tuple[str, list[int], bytes]


def copied(original: Path, where: Path) -> Path:
    """Copies a folder's files into a new folder `net`."""
    folder = where / "net"
    folder.mkdir()
    for file in original.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def read(folder: Path) -> dict[str, Described]:
    """The tensors in a folder."""
    content = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + length])
    data = content[8 + length :]
    return {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
        for name, entry in about.items()
        if name != "__metadata__"
    }


def write(folder: Path, tensors: dict[str, Described], *, aligned: bool = True) -> None:
    """Writes a safetensors file of any dtypes, also of those that torch cannot write.

    Args:
        folder: Its weights file is replaced.
        tensors: What it holds.
        aligned: Whether the data start at a multiple of eight, as in the files that safetensors writes.
    """
    about: dict[str, Any] = {}
    place = 0
    for name, (dtype, shape, data) in tensors.items():
        offsets = [place, place + len(data)]
        about[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        place += len(data)
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 8 if aligned else 0)
    path = folder / WEIGHTS
    path.unlink(missing_ok=True)
    path.write_bytes(
        len(text).to_bytes(8, "little") + text + b"".join(data for *_, data in tensors.values())
    )


def size_of(dtype: str, shape: list[int]) -> int:
    """Bytes of a tensor, in whole ones."""
    return -(-math.prod(shape) * BITS[dtype] // 8)


def zeros(dtype: str, shape: list[int]) -> Described:
    """A tensor of zeros of any dtype."""
    return dtype, shape, bytes(size_of(dtype, shape))


def outcome(folder: Path, classes: int) -> str:
    """Loads a folder; returns `loaded` or the name of the package's error that it raised.

    What comes in can compute. Every floating-point tensor is finite and has a dtype in which it can run.
    """
    began = time.process_time()
    try:
        network = artefact.load(folder)
    except SeclcompressError as error:
        return type(error).__name__
    finally:
        assert time.process_time() - began < _SECONDS
    for tensor in network.state_dict().values():
        assert tensor.layout is torch.strided
        assert not tensor.is_meta
        if tensor.is_floating_point():
            assert tensor.dtype in RUNS.values()
            assert torch.isfinite(tensor).all()
    with torch.no_grad():
        image = torch.ones(1, 3, 8, 8, dtype=next(network.parameters()).dtype)
        assert network(image).shape == (1, classes)
    return "loaded"
