"""Reading a file of weights, whose kind is told by its bytes and never by its name.

Before memory is asked for, the sizes that the file declares are compared with what it can hold.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import pickle
import re
import types
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from seclcompress.errors import WeightsError

_LARGEST_HEADER = 2 * 2**20  # bytes; the largest torchvision network has a header of 0.1 MB
#: Bytes that a file may declare beyond those that it has. torch.save does not compress.
_SLACK = 64 * 2**20
_MOST_MEMBERS = 100_000
#: The names and shapes of the tensors; the largest torchvision network's take 0.2 MB.
_LARGEST_PICKLE = 8 * 2**20
_PICKLE = b"\x80"  # the first byte of a pickle of protocol 2 or later
#: What checkpoints of training scripts hold beside tensors. None of these runs code of a file.
_HARMLESS: tuple[Callable[..., Any] | tuple[Callable[..., Any], str], ...] = (
    argparse.Namespace,
    types.SimpleNamespace,
    collections.defaultdict,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    dict,
    list,
    set,
)


def reading_limit(network: nn.Module) -> int:
    """The size in bytes up to which a file of weights for a network is read.

    A checkpoint may hold the weights, averaged ones and two moments of an optimiser, in double
    precision.
    """
    own = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    return 16 * own + _SLACK


def read_weights(path: Path, *, limit: int | None = None) -> Mapping[str, Any]:
    """Reads a file of weights.

    Args:
        path: A file of safetensors or of torch.save, under any name. A checkpoint may hold more than
            tensors; what of it is weights is chosen later.
        limit: The size in bytes up to which the file is read (see `reading_limit`); None for any size.

    Returns:
        The content: tensors by name, or a checkpoint that has such a mapping somewhere inside. Tensors
        are on the CPU.

    Raises:
        WeightsError: If the file is missing, damaged or of another kind, declares more than it holds, or
            holds something that could run code.
    """
    try:
        there = path.is_file()
    except OSError:  # the parent is not readable, or the name is too long
        there = False
    if not there:
        raise WeightsError(f"There is no weights file {path}.")
    try:
        size = path.stat().st_size
        if limit is not None and size > limit:
            raise WeightsError(
                f"{path} has {size:,} bytes; all that belongs to this network's training has at most "
                f"{limit:,}. Is it for another network?"
            )
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror}.") from error
    if start.startswith(b"PK\x03\x04"):
        _check_archive(path)
        return _unpickled(path)
    if len(start) > 8 and start[8:9] in (b"{", b" "):
        return _safetensors(path)
    if start.startswith(_PICKLE):
        return _unpickled(path)
    if path.suffix == ".safetensors":
        raise WeightsError(f"{path} is not a readable safetensors file: it has no header.")
    raise WeightsError(
        f"{path} is damaged, or no file of weights: it is neither of safetensors nor of torch.save."
    )


def tensors_in(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name, dtype and shape of each tensor of a safetensors file, from its header alone.

    The dtype is spelled as in the file, such as `F32`.

    Raises:
        WeightsError: If there is no such file, or its header is not that of safetensors.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise WeightsError(f"There is no weights file {path}.")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(_LARGEST_HEADER, size):
                most = min(_LARGEST_HEADER, size)
                raise WeightsError(
                    f"{path} is not a readable safetensors file: its header has {length:,} bytes, more "
                    f"than {most:,}."
                )
            header = json.loads(file.read(length))
        return {
            str(name): (str(about["dtype"]), tuple(int(side) for side in about["shape"]))
            for name, about in header.items()
            if name != "__metadata__"
        }
    except FileNotFoundError as error:
        raise WeightsError(f"There is no weights file {path}.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}.") from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    tensors_in(path)
    try:
        # Copied: the file is mapped, and a program that writes over it later would end this one.
        return {name: tensor.clone() for name, tensor in safetensors.torch.load_file(path).items()}
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}.") from error
    except MemoryError as error:
        raise WeightsError(f"{path} declares more than this machine's memory can hold.") from error


def _check_archive(path: Path) -> None:
    """Refuses programs, and archives that would unpack to far more than they are."""
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise WeightsError(f"{path} is damaged: {error}.") from error
    names = {member.filename.partition("/")[2] for member in members}
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise WeightsError(
            f"{path} is a TorchScript program (torch.jit.save), not weights. Save those in Python: "
            "torch.save(torch.jit.load(PATH).state_dict(), 'weights.pth')"
        )
    if "archive_format" in names or any(name.startswith("models/") for name in names):
        raise WeightsError(
            f"{path} is an exported program (torch.export.save), not weights. Save those in Python: "
            "torch.save(torch.export.load(PATH).state_dict, 'weights.pth')"
        )
    if "data.pkl" not in names:
        raise WeightsError(f"{path} is a zip archive, but none of torch.save.")
    pickles = sum(m.file_size for m in members if m.filename.endswith(".pkl"))
    if pickles > _LARGEST_PICKLE:
        raise WeightsError(
            f"{path} has {pickles:,} bytes of pickled structure, more than {_LARGEST_PICKLE:,}: refused."
        )
    declared = sum(member.file_size for member in members)
    if declared > size + _SLACK or len(members) > _MOST_MEMBERS:
        raise WeightsError(
            f"{path} has {size:,} bytes, and would unpack to {declared:,} in {len(members):,} members: "
            "refused. torch.save does not compress."
        )


def _unpickled(path: Path) -> Mapping[str, Any]:
    try:
        allowed = torch.serialization.get_safe_globals()
        try:
            with torch.serialization.safe_globals([*_HARMLESS, *_numpy_globals()]):
                content = torch.load(path, map_location="cpu", weights_only=True)
        finally:  # torch takes off what the person had allowed as well
            torch.serialization.add_safe_globals(allowed)
    except pickle.UnpicklingError as error:
        # torch's own message advises to load the file unsafely, so it is not shown.
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"a {found[1]}" if found else "more than tensors"
        raise WeightsError(
            f"{path} is damaged, or holds {what}, and unpickling it could run code: refused. Where you "
            "trust it, save its weights in Python: torch.save(torch.load(PATH, weights_only=False)"
            "['model'].state_dict(), 'weights.pth'), or what else leads to them."
        ) from error
    except Exception as error:  # a damaged archive ends in many kinds of exception
        raise WeightsError(
            f"{path} is damaged or no file of torch.save ({type(error).__name__})."
        ) from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not weights by name.")
    return content


def _numpy_globals() -> list[Any]:
    """What a pickled NumPy number or array names: best accuracies and histories are often such."""
    of_arrays = np.zeros(1).__reduce__()[0]  # type: ignore[misc]  # its module differs by version
    of_numbers = np.float64(0).__reduce__()[0]  # type: ignore[misc]
    import _codecs

    kinds = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdU"]
    return [of_arrays, of_numbers, np.ndarray, np.dtype, *kinds, _codecs.encode]
