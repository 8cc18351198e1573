"""The files of a run in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import (
    Stopping,
    digits,
    trainer,
)

from seclcompress.data import Data
from seclcompress.errors import ArtefactError
from seclcompress.train import Stopped


@pytest.fixture
def data() -> Data:
    return digits()


def test_a_full_disk_is_an_error_of_ours(tmp_path: Path, data: Data, monkeypatch) -> None:
    with pytest.raises(Stopped):
        trainer(tmp_path, data, Stopping(5)).run()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        again = trainer(tmp_path, data)
        again.resume()
        with pytest.raises(ArtefactError, match="No space left"):
            again.run()
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    again = trainer(tmp_path, data)
    again.resume()
    again.run()
