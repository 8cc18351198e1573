"""Two runs into one output: the second ends at once, in words, and takes nothing from the first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import Silent

from seclcompress.errors import ArtefactError
from seclcompress.files import system
from seclcompress.files.system import Taken, claim, is_claimed, locked
from seclcompress.settings.training import TrainingSettings
from seclcompress.workflows.output import Output
from seclcompress.workflows.training import train

SETTINGS = TrainingSettings(epochs=1, train_images=100, batch_size=50, lr=0.02)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
#: Claims a folder, tells so, and holds it until it is killed.
HOLDER = """
import sys, time
from pathlib import Path
from seclcompress.files.system import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""

needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")


def held_by_another_process(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def run(folder: Path, observer: Silent | None = None, **more: bool) -> None:
    train(
        "wrn10_0.25",
        data="digits",
        output_dir=folder,
        settings=SETTINGS,
        observer=observer or Silent(),
        **more,
    )


@needs_locks
@pytest.mark.parametrize("more", [{}, {"overwrite": True}, {"resume": True}])
def test_while_another_process_writes(more: dict[str, bool], tmp_path: Path) -> None:
    holder = held_by_another_process(tmp_path / "out.partial")
    (tmp_path / "out.partial" / "checkpoint.safetensors").write_bytes(b"its own")
    try:
        with pytest.raises(ArtefactError, match="Another run is writing to .*out just now"):
            run(tmp_path / "out", **more)
        assert (tmp_path / "out.partial" / "checkpoint.safetensors").read_bytes() == b"its own"
        assert not (tmp_path / "out").exists()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()


@needs_locks
def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    holder = held_by_another_process(tmp_path / "out.partial")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not is_claimed(tmp_path / "out.partial")
    run(tmp_path / "out")  # the folder that it left is empty, so there is nothing to go on with
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@needs_locks
def test_in_one_process(tmp_path: Path) -> None:
    class Second(Silent):
        words = ""

        def step(self, epoch: int, images: int, loss: float, lr: float) -> None:
            with pytest.raises(ArtefactError, match="Another run is writing") as caught:
                run(tmp_path / "out", overwrite=True)
            self.words = str(caught.value)

    second = Second()
    run(tmp_path / "out", second)
    assert "out.partial" in second.words
    assert (tmp_path / "out" / "config.json").is_file()


@needs_locks
def test_a_result_that_came_since_the_check_stops_the_second_at_once(tmp_path: Path) -> None:
    output = Output(tmp_path / "out")
    output.check()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(ArtefactError, match="is there already"), output.claimed():
        raise AssertionError("it began")
    assert not (tmp_path / "out.partial").exists()


def test_where_there_are_no_locks_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "_lock", lambda handle, wait: False)
    run(tmp_path / "out")
    with claim(tmp_path / "a"):
        pass
    monkeypatch.setattr(system, "_open_folder", lambda folder: None)
    with claim(tmp_path / "a"):
        assert not is_claimed(tmp_path / "a")
    run(tmp_path / "out2")


@needs_locks
def test_a_claim_ends_with_its_block(tmp_path: Path) -> None:
    with claim(tmp_path / "a"):
        assert is_claimed(tmp_path / "a")
        with locked(tmp_path / "a", wait=True) as held:  # would wait for itself for ever
            assert held
        with pytest.raises(Taken), claim(tmp_path / "a"):
            raise AssertionError("claimed twice")
        (tmp_path / "a" / "file").touch()
    assert not is_claimed(tmp_path / "a")
    assert (tmp_path / "a" / "file").exists()
    (tmp_path / "a" / "file").unlink()
    with claim(tmp_path / "a"):
        pass
    assert not (tmp_path / "a").exists()


@needs_locks
def test_a_folder_that_is_removed_meanwhile_is_claimed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run ends, and removes its folder, between our opening it and locking it."""
    folder, lock = tmp_path / "a", system._lock
    removed: list[float] = []

    def late(handle: int, *, wait: bool) -> bool:
        if not removed:
            removed.append(time.monotonic())
            folder.rmdir()
        return lock(handle, wait=wait)

    monkeypatch.setattr(system, "_lock", late)
    with claim(folder):
        assert folder.is_dir()
        assert is_claimed(folder)


def test_a_name_that_would_become_too_long(tmp_path: Path) -> None:
    for length, fits in ((230, True), (234, False), (300, False)):
        output = Output(tmp_path / ("ä" * (length // 2)))
        if fits:
            output.check()
            with output.claimed():
                pass
            continue
        with pytest.raises(ArtefactError, match=f"the name has {length} bytes"):
            output.check()
    run(tmp_path / ("x" * 233))
    assert len([*tmp_path.iterdir()]) == 1
