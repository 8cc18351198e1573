"""Processes that load images: killed ones are told apart from ones that raise an exception."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from runs import write_noise
from torch import Tensor

from seclcompress.data import Presentation, folders, from_files, load_data
from seclcompress.data.folders import Reading
from seclcompress.errors import DataError
from seclcompress.preprocessing import Preprocessing


def presentation(workers: int = 0) -> Presentation:
    return Presentation((3, 96, 96), Preprocessing(mean=(0, 0, 0), std=(1, 1, 1)), workers=workers)


def _raising(error: Exception) -> Iterator[None]:
    raise error
    yield


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 6])
def test_a_worker_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: int
) -> None:
    """A worker is killed, as by a system without memory, at the first image or at a later one."""
    write_noise(tmp_path, ["cat", "dog"], 4, 96, "jpg")
    data = load_data(f"imagefolder:{tmp_path}", (3, 96, 96), reading=Reading("never"))

    def die(path: str, channels: int) -> Tensor:
        if torch.utils.data.get_worker_info() is not None and path == paths[victim]:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(path, channels)

    paths, decode = data.train.decode.paths, folders.decode
    monkeypatch.setattr(folders, "decode", die)
    order = [torch.tensor([index]) for index in range(8)]
    with pytest.raises(DataError, match=r"A process that loads images died: .*fewer --workers"):
        list(data.train.read(order, presentation(workers=2)))
    assert len(list(data.train.read(order, presentation()))) == 8


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        ConnectionResetError(104, "Connection reset by peer"),
        FileNotFoundError(2, "No such file or directory"),
        EOFError(),
    ],
)
def test_each_way_in_which_a_death_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Which one it is depends on whether the worker dies before or while its batch is fetched."""
    write_noise(tmp_path, ["cat", "dog"], 4, 96, "jpg")
    data = load_data(f"imagefolder:{tmp_path}", (3, 96, 96), reading=Reading("never"))
    monkeypatch.setattr(from_files, "DataLoader", lambda *args, **options: _raising(error))
    with pytest.raises(
        DataError, match=r"A process that loads images died: .*[^.]\. Out of memory"
    ):
        list(data.train.read([torch.arange(2)], presentation()))


@pytest.mark.parametrize("kind", [RuntimeError, ConnectionResetError, FileNotFoundError])
def test_what_a_worker_raises_itself_is_no_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    write_noise(tmp_path, ["cat", "dog"], 4, 96, "jpg")
    data = load_data(f"imagefolder:{tmp_path}", (3, 96, 96), reading=Reading("never"))
    error = kind(f"Caught {kind.__name__} in DataLoader worker process 0.\nOriginal Traceback ...")
    monkeypatch.setattr(from_files, "DataLoader", lambda *args, **options: _raising(error))
    with pytest.raises(kind, match="Caught"):
        list(data.train.read([torch.arange(2)], presentation()))
