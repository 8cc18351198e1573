"""Archives of torch that are damaged or made to take memory are refused before memory is asked for."""

from __future__ import annotations

import contextlib
import io
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory import grows_by_less_than

from seclcompress.errors import WeightsError
from seclcompress.networks.weights import read_weights

LITTLE = 2**29  # bytes


@pytest.fixture(autouse=True, scope="module")
def little_memory() -> Iterator[None]:
    """Nothing in this file takes much memory, whatever the files declare."""
    with grows_by_less_than(LITTLE):
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with four numbers."""
    torch.save({"a": torch.arange(4.0)}, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def packed_again(path: Path, compression: int = zipfile.ZIP_STORED, **changed: bytes) -> None:
    """Writes an archive again, with other contents of the records `data_pkl` and `data_0`."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            short = name.partition("/")[2].replace(".", "_").replace("/", "_")
            archive.writestr(name, changed.get(short, content))


def pickled(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read("w/data.pkl")


def test_packed_again_without_compression(path: Path) -> None:
    packed_again(path)
    assert read_weights(path)["a"].tolist() == [0, 1, 2, 3]


def test_a_bomb(path: Path) -> None:
    packed_again(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("w/data/1", "w") as record:
            for _ in range(2**7):
                record.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(
        WeightsError, match=r"record w/data/1 is compressed .*torch.save never does"
    ):
        read_weights(path)


def test_numbers_that_the_records_do_not_hold(path: Path) -> None:
    """The pickle declares ten million numbers, and the record has four."""
    whole = pickled(path)
    assert "BININT1    4" in dis(whole)
    large = b"J" + struct.pack("<i", 10**7)
    changed = whole.replace(b"K\x04tq", large + b"tq").replace(b"K\x04\x85", large + b"\x85")
    packed_again(path, data_pkl=changed)
    with pytest.raises(WeightsError, match="is damaged or no file of torch.save"):
        read_weights(path)


def dis(content: bytes) -> str:
    out = io.StringIO()
    pickletools.dis(content, out)
    return out.getvalue()


def test_many_objects(path: Path) -> None:
    packed_again(path, data_pkl=b"\x80\x02" + b"]" * 2**24 + b".")
    with pytest.raises(WeightsError, match=r"names and objects alone take 16,777,219 bytes"):
        read_weights(path)


def test_many_objects_in_the_old_format(path: Path) -> None:
    torch.save({"a": torch.zeros(4)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    start = whole.index(b"}q", 30)
    path.write_bytes(whole[:start] + b"N" * 2**24 + whole[start:])
    with pytest.raises(
        WeightsError, match="names and objects alone take more than 4,194,304 bytes"
    ):
        read_weights(path)


def test_an_old_file_of_many_numbers(path: Path) -> None:
    """What is counted is what is unpickled, not the numbers."""
    many = torch.arange(2.0**21)
    torch.save({"a": many, "b": many[1:]}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_weights(path)["a"], many)
    assert torch.equal(read_weights(path)["b"], many[1:])


def test_numbers_that_an_old_file_does_not_hold(path: Path) -> None:
    torch.save({"a": torch.arange(4.0)}, path, _use_new_zipfile_serialization=False)
    assert read_weights(path)["a"].tolist() == [0, 1, 2, 3]
    whole = path.read_bytes()
    terabyte = b"\x8a\x06" + (2**40).to_bytes(6, "little")
    changed = whole.replace(b"K\x04Ntq", terabyte + b"Ntq").replace(
        b"K\x04\x85", terabyte + b"\x85"
    )
    assert changed != whole
    path.write_bytes(changed)
    words = "for which this machine has no memory|is damaged or no file of torch.save"
    with pytest.raises(WeightsError, match=words):  # as the system is set up
        read_weights(path)


@pytest.mark.parametrize("kind", ["archive", "legacy", "safetensors"])
def test_a_sparse_file_of_terabytes(path: Path, kind: str) -> None:
    if kind == "legacy":
        torch.save({"a": torch.zeros(4)}, path, _use_new_zipfile_serialization=False)
    if kind == "safetensors":
        about = b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
        path.write_bytes(len(about).to_bytes(8, "little") + about)
    with path.open("r+b") as file:
        file.truncate(2**42)
    with pytest.raises(
        WeightsError, match=r"has 4,398,046,511,104 bytes, far more than the network"
    ):
        read_weights(path, limit=2**28)


def test_two_directories(path: Path, tmp_path: Path) -> None:
    """Python and torch would see different records, so the first's check would tell nothing."""
    content = path.read_bytes()
    for changed in (b"PK\x03\x04" + content, content + b"x", content[:-2] + b"\x01\x00x"):
        path.write_bytes(changed)
        with pytest.raises(
            WeightsError, match="is damaged: it begins like a file of torch.save, but"
        ):
            read_weights(path)


def test_two_records_of_one_name(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("w/data/0", bytes(16))
    with pytest.raises(WeightsError, match="two of its records have the same name"):
        read_weights(path)


def test_records_that_share_their_bytes(path: Path) -> None:
    torch.save({"a": torch.zeros(2**18)}, path)
    content = path.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    count, _, length, start = struct.unpack("<HHLL", content[end + 8 : end + 20])
    directory = content[start : start + length]
    # Each letter lists the same records under other names.
    entries = b"".join(directory.replace(b"w/", bytes([letter]) + b"/") for letter in b"abcdw")
    ending = struct.pack("<HHLL", 5 * count, 5 * count, len(entries), start)
    path.write_bytes(content[:start] + entries + content[end : end + 8] + ending + b"\0\0")
    words = r"its records declare 5,24\d,\d+ bytes, and the file has 1,\d+,\d+"
    with pytest.raises(WeightsError, match=words):
        read_weights(path)


@given(
    places=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), max_size=4),
    cut=st.none() | st.integers(0, 2000),
    legacy=st.booleans(),
)
def test_flipped_bits(
    tmp_path_factory: pytest.TempPathFactory,
    places: list[tuple[int, int]],
    cut: int | None,
    legacy: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.pth"
    torch.save({"a": torch.arange(4.0)}, path, _use_new_zipfile_serialization=not legacy)
    content = bytearray(path.read_bytes())
    for place, mask in places:
        content[place % len(content)] ^= mask
    path.write_bytes(bytes(content if cut is None else content[:cut]))
    with contextlib.suppress(WeightsError):
        read_weights(path)
