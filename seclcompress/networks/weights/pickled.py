"""What torch.save wrote, read without running code: `weights_only`, and stand-ins for harmless types.

Training scripts put their arguments, best figures and paths beside the weights. These objects are not
built. An inert stand-in takes the place of each, so nothing of their types runs on a stranger's bytes.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from pathlib import Path
from typing import Any, cast

import torch

from seclcompress.errors import WeightsError, short
from seclcompress.networks.weights.kinds import MOST_PICKLED, RESAVE

_REFUSED = re.compile(r"GLOBAL (\S+) was not an allowed global|GLOBAL (\S+) whose module")


class Inert:
    """Stands for an object in a checkpoint; it keeps nothing of it but the type's name."""

    stands_for = "object"

    def __new__(cls, *state: object, **more: object) -> Inert:
        """Makes a stand-in, whatever the object was made from."""
        del state, more
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Drops the object's state."""


def kind_in_words(value: object) -> str:
    """What an object in a checkpoint is, such as `an object of type numpy.ndarray`."""
    name = value.stands_for if isinstance(value, Inert) else type(value).__name__
    return f"an object of type {name}"


def _new_list(*state: object) -> list[Any]:
    """Makes the plain list that stands for a deque; its entries come later."""
    del state
    return []


#: Types whose objects are replaced by a stand-in.
_HARMLESS = (
    *("argparse.Namespace", "types.SimpleNamespace"),
    *("numpy.dtype", "numpy.ndarray"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core")
      for name in ("scalar", "_reconstruct")),
    *(f"numpy.dtypes.{kind}DType" for kind in
      ("Float16", "Float32", "Float64", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32",
       "UInt64", "Bool", "Str", "Bytes")),
    *(f"numpy.{kind}" for kind in
      ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
       "uint64", "bool_", "bool", "str_")),
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in
      ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    *("datetime.datetime", "datetime.date", "datetime.timedelta"),
    *(f"builtins.{name}" for name in
      ("int", "float", "bool", "str", "bytes", "list", "dict", "tuple", "frozenset", "slice", "range")),
    "torch.torch_version.TorchVersion",
)  # fmt: skip
#: Dictionaries and lists of other types, which become plain ones.
_DICTIONARIES = (
    "collections.defaultdict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
)
_LISTS = ("collections.deque",)


class _Dictionary:
    """Its instances are plain dictionaries, also where pickle makes them without calling the type."""

    def __new__(cls, *state: object) -> Any:
        """Makes a plain dictionary."""
        del state
        return {}


def _called(name: str) -> str:
    """What a person calls the objects that a function of NumPy makes; other names are types."""
    if not name.startswith("numpy"):
        return name
    return {"scalar": "numpy.generic", "_reconstruct": "numpy.ndarray"}.get(
        name.rpartition(".")[2], name
    )


def _stand_ins() -> list[Any]:
    inert = [(type("Inert", (Inert,), {"stands_for": _called(name)}), name) for name in _HARMLESS]
    return [*inert, *((_Dictionary, n) for n in _DICTIONARIES), *((_new_list, n) for n in _LISTS)]


def unpickle(path: Path, *, legacy: bool) -> Any:
    """Reads what torch.save wrote, with tensors and plain containers only.

    Args:
        path: The file. If it is an archive, `archive.check_archive` has seen it, and its tensors are
            mapped: nothing of them is in memory before it is used.
        legacy: Whether the file is from before torch 1.6, which is no archive.

    Raises:
        WeightsError: If the file is damaged or holds an object whose type might run code. The message
            names the type.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_stand_ins()):
            warnings.simplefilter("ignore")
            if not legacy:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with path.open("rb") as file:
                return torch.load(cast(Any, _Counted(file)), map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        raise WeightsError(_words(path, str(error))) from error
    except Exception as error:  # a damaged file ends in many kinds of exception
        reason = (str(error).strip().splitlines() or [""])[0]
        if isinstance(error, MemoryError) or "allocate memory" in reason:
            raise WeightsError(
                f"{path} declares tensors for which this machine has no memory. It is damaged, or "
                "too large for it."
            ) from error
        raise WeightsError(
            f"{path} is damaged or no file of torch.save ({type(error).__name__}: "
            f"{short(reason, 200)})."
        ) from error


def _words(path: Path, reason: str) -> str:
    """A message for what torch's unpickler refused; its own advises to load the file unsafely."""
    found = _REFUSED.search(reason)
    if found is None:
        return (
            f"{path} is damaged, or was pickled in a way that cannot be read without running code: "
            f"refused. Where you trust it, load it in Python yourself and save its weights: {RESAVE}"
        )
    name = short(found[1] or found[2], 200)
    return (
        f"{path} holds an object made by {name} beside tensors, and making it could run code: refused. "
        f"Where you trust it, load it in Python yourself and save its weights alone: {RESAVE}"
    )


class _Counted:
    """A file of the old format for torch.load, of which a bounded part may be unpickled.

    torch reads pickles by `read` and `readline`, and the tensors' values by `readinto`.
    """

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._left = MOST_PICKLED
        self.seek, self.tell, self.readinto = file.seek, file.tell, file.readinto

    def read(self, size: int = -1) -> bytes:
        return self._count(
            self._file.read(min(self._left + 1, size) if size >= 0 else self._left + 1)
        )

    def readline(self) -> bytes:
        return self._count(self._file.readline(self._left + 1))

    def _count(self, content: bytes) -> bytes:
        self._left -= len(content)
        if self._left < 0:
            raise WeightsError(
                f"{self._file.name}: its names and objects alone take more than {MOST_PICKLED:,} bytes. "
                f"Save the weights alone: {RESAVE}"
            )
        return content
