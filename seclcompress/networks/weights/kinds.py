"""What kind of file a weights file is, by its bytes and never by its ending."""

from __future__ import annotations

import stat
from enum import Enum
from pathlib import Path

from seclcompress.errors import WeightsError

_HEAD = 512  # bytes; a tar archive names itself at byte 257
#: Every torch file before version 1.6 begins with this number, as a pickle writes it.
_LEGACY_NUMBER = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
#: What a person does with a file that cannot be read safely.
RESAVE = "torch.save({'state_dict': model.state_dict()}, FILE)"
#: Bytes that may be unpickled, without the tensors' values. The names and shapes of the largest
#: torchvision network take 0.2 MB; some bytes of a pickle make a hundred times as many in memory.
MOST_PICKLED = 4 * 2**20
_PICKLE = (
    "a pickle that torch.save did not write. Where you trust it, load it in Python yourself and "
)

#: Files that are often taken for weights: where the sign is, the sign, what the file is and what to do.
_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself: git lfs pull"),
    (0, b"<!doctype html", "a web page; the download went wrong"),
    (0, b"<html", "a web page; the download went wrong"),
    (0, b"\x89hdf\r\n\x1a\n", "an HDF5 file, as Keras writes them; save it from torch"),
    (0, b"\x93numpy", "a NumPy array; save a state_dict from torch"),
    (0, b"gguf", "a GGUF file, whose weights are quantised; take the original's"),
    (0, b"\x1f\x8b", "compressed by gzip; unpack it first"),
    (0, b"bzh", "compressed by bzip2; unpack it first"),
    (0, b"\xfd7zxz", "compressed by xz; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (257, b"ustar", f"a tar archive; unpack it first, or if torch wrote it, save it anew: {RESAVE}"),
    (0, b"\x80", f"{_PICKLE}save it anew: {RESAVE}"),
    (0, b"{", "a JSON text, perhaps a list of shards; name one file with all weights"),
)  # fmt: skip


class Kind(Enum):
    """The kinds of file that can be read."""

    SAFETENSORS = "safetensors"
    ZIP = "a zip archive of torch"
    LEGACY = "a torch file from before version 1.6"


def kind_of(path: Path) -> Kind:
    """Finds out what kind of file a weights file is.

    Raises:
        WeightsError: If there is no such regular file, or it is of another kind. The message says what
            it is, and what to do.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror}.") from error
    if not head:
        raise WeightsError(f"{path} is damaged: it is empty.")
    if head[8:9] == b"{":
        return Kind.SAFETENSORS
    if head.startswith(b"PK\x03\x04"):
        return Kind.ZIP
    if head.startswith(b"\x80") and _LEGACY_NUMBER in head[:32]:
        return Kind.LEGACY
    low = head.lower()
    for place, sign, words in _OTHERS:
        if low[place:].startswith(sign):
            raise WeightsError(f"{path} is no weights file that can be read: it is {words}.")
    raise WeightsError(
        f"{path} is damaged or no weights file: it begins with {head[:8]!r}. Known are safetensors and "
        "what torch.save writes."
    )


def check_regular(path: Path) -> None:
    """Refuses what is not a regular file, such as a pipe, which might never end.

    Raises:
        WeightsError: If there is no such file, or it is something else.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        missing = isinstance(error, FileNotFoundError)
        raise WeightsError(
            f"There is no weights file {path}."
            if missing
            else f"There is no weights file {path}: {reason}."
        ) from error
    if stat.S_ISREG(mode):
        return
    if not stat.S_ISDIR(mode):
        kinds = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))
        what = next((words for is_kind, words in kinds if is_kind(mode)), "a device")
        raise WeightsError(f"There is no weights file {path}: it is {what}.")
    inside = ("model.safetensors", "pytorch_model.bin")
    there = [name for name in inside if (path / name).is_file()]
    hint = f" Did you mean {path / there[0]}?" if there else ""
    raise WeightsError(f"There is no weights file {path}: it is a folder.{hint}")
