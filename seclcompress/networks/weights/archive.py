"""Checks of a zip archive of torch before torch reads it.

torch.save stores its records without compression. An archive that keeps to this holds no more than its
own bytes, and its tensors can be mapped instead of read. The directory is checked so strictly that
Python and torch cannot see two different ones in the same file.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from seclcompress.errors import WeightsError
from seclcompress.networks.weights.kinds import MOST_PICKLED, RESAVE

_MOST_RECORDS = 2**17
_END, _END_64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_END_SIZE, _END_64_SIZE, _LOCATOR_SIZE = 22, 56, 20
#: Zip archives that are often taken for weights, by a part of the name of a record.
_OTHERS = (
    ("/constants.pkl", "a TorchScript archive, which holds code beside its weights"),
    ("models/model.json", "an exported program of torch.export, which holds a graph"),
    ("serialized_exported_program.json", "an exported program of torch.export, which holds a graph"),
    ("archive_format", "an exported program of torch.export, which holds a graph"),
    ("model.weights.h5", "a network of Keras"),
    ("[Content_Types].xml", "an office document"),
)  # fmt: skip


def check_archive(path: Path) -> None:
    """Refuses an archive that torch.save did not write.

    Raises:
        WeightsError: If it is TorchScript or another archive, is compressed, declares more than the
            file holds, or is damaged.
    """
    try:
        records = records_of(path)
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise WeightsError(
            f"{path} is damaged: it begins like a file of torch.save, but {error}."
        ) from error
    names = [record.filename for record in records]
    for part, words in _OTHERS:
        if any(part in f"/{name}" for name in names):
            raise WeightsError(
                f"{path} is {words}: refused. Where you trust it, load it in Python and save its "
                f"weights alone: {RESAVE}"
            )
    if not any(name.endswith("/data.pkl") for name in names):
        shown = ", ".join(names[:3]) or "nothing"
        what = "a NumPy archive" if any(n.endswith(".npy") for n in names) else "a zip archive"
        raise WeightsError(f"{path} is {what} that torch.save did not write: it holds {shown}.")
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
            raise WeightsError(
                f"{path}: its record {record.filename} is compressed ({record.compress_size:,} bytes "
                f"for {record.file_size:,}), which torch.save never does: refused. Where you trust it, "
                f"load it in Python and save it anew: {RESAVE}"
            )
        if record.filename.endswith("/data.pkl") and record.file_size > MOST_PICKLED:
            raise WeightsError(
                f"{path}: its names and objects alone take {record.file_size:,} bytes; at most "
                f"{MOST_PICKLED:,} are read. Save the weights alone: {RESAVE}"
            )


def records_of(path: Path) -> list[zipfile.ZipInfo]:
    """The records of an archive.

    Raises:
        ValueError: If the directory is not at the end, is not whole, or declares what cannot be.
    """
    size = path.stat().st_size
    _check_directory(path, size)
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    if len(records) > _MOST_RECORDS:
        raise ValueError(f"it has {len(records):,} records, more than {_MOST_RECORDS:,}")
    if len({record.filename for record in records}) != len(records):
        raise ValueError("two of its records have the same name")
    held = sum(record.compress_size for record in records)
    if held > size:
        raise ValueError(f"its records declare {held:,} bytes, and the file has {size:,}")
    return records


def _check_directory(path: Path, size: int) -> None:
    """Checks that the archive's directory lies directly before the mark at the end of the file."""
    with path.open("rb") as file:
        file.seek(max(0, size - _END_SIZE - _LOCATOR_SIZE - _END_64_SIZE))
        tail = file.read()
    end = tail[-_END_SIZE:]
    if not end.startswith(_END) or end[-2:] != b"\0\0":
        raise ValueError("it ends before its directory")
    length, start = struct.unpack("<LL", end[12:20])
    where = size - _END_SIZE
    locator = tail[-_END_SIZE - _LOCATOR_SIZE : -_END_SIZE]
    if locator.startswith(_LOCATOR):
        where -= _LOCATOR_SIZE + _END_64_SIZE
        large = tail[-_END_SIZE - _LOCATOR_SIZE - _END_64_SIZE :]
        if not large.startswith(_END_64) or struct.unpack("<Q", locator[8:16])[0] != where:
            raise ValueError("its directory is not where it says")
        length, start = struct.unpack("<QQ", large[40:56])
    if start + length != where:
        raise ValueError("its directory is not where it says")
