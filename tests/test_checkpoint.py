"""Checkpoints are never lost and never silently wrong, whenever the process dies."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import Silent, digits, same_weights, trainer

from seclcompress.checkpoint import (
    CHECKPOINT,
    PREVIOUS,
    Progress,
    read_checkpoint,
    write_checkpoint,
)
from seclcompress.errors import SeclcompressWarning, TrainingError
from seclcompress.files import MANIFEST, check_free
from seclcompress.train import Trainer


def written(folder: Path, steps: list[int]) -> None:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for step in steps:
        with torch.no_grad():
            network.weight.fill_(step)
        network(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        network.weight.data.fill_(step)
        write_checkpoint(folder, network, [optimizer], Progress({"a": 1}, step=step))


def read(folder: Path) -> tuple[Progress, torch.nn.Module]:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    return read_checkpoint(folder, network, [optimizer]), network


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    written(tmp_path, [1, 2, 3])
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        [CHECKPOINT, PREVIOUS, MANIFEST]
    )
    progress, network = read(tmp_path)
    assert progress.step == 3
    assert network.weight[0, 0].item() == 3
    (tmp_path / CHECKPOINT).unlink()
    assert read(tmp_path)[0].step == 2


@settings(max_examples=40)
@given(place=st.floats(0, 1), how=st.sampled_from(["cut", "flip", "zero"]))
def test_a_damaged_one_is_found_and_the_one_before_is_taken(
    tmp_path_factory: pytest.TempPathFactory, place: float, how: str
) -> None:
    folder = tmp_path_factory.mktemp("run")
    written(folder, [1, 2])
    path = folder / CHECKPOINT
    content = bytearray(path.read_bytes())
    at = min(int(place * len(content)), len(content) - 1)
    if how == "cut":
        content = content[:at]
    else:
        content[at] = content[at] ^ 0x10 if how == "flip" else 0
    if bytes(content) == path.read_bytes():
        return
    path.write_bytes(bytes(content))
    with pytest.warns(
        SeclcompressWarning,
        match=r"damaged: .* Going on from the one before it \(epoch 1, step 1\)",
    ):
        progress, network = read(folder)
    assert progress.step == 1
    assert network.weight[0, 0].item() == 1
    (folder / PREVIOUS).write_bytes(b"nothing")
    with pytest.raises(TrainingError, match=r"damaged.*damaged.*--overwrite"):
        read(folder)


def test_of_another_network(tmp_path: Path) -> None:
    written(tmp_path, [1])
    other = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    with pytest.raises(TrainingError, match="for another network"):
        read_checkpoint(tmp_path, other, [optimizer])


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    written(tmp_path, [1, 2])
    assert read(tmp_path)[0].step == 2


def go_on(folder: Path, observer: Silent | None = None) -> Trainer:
    run = trainer(folder, digits(), observer, epochs=2, checkpoint_seconds=1e-9, crop=True)
    if (folder / CHECKPOINT).exists():
        run.resume()
    run.run()
    return run


def go_on_and_die(folder: Path, call: str, number: int) -> None:
    """Kills this process with SIGKILL at a given call of a function of the operating system."""
    module, _, name = call.rpartition(".")
    owner = Path if module == "pathlib.Path" else os
    original, calls = getattr(owner, name), []

    def dies(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **more)

    setattr(owner, name, dies)
    go_on(folder)


@pytest.fixture(scope="module")
def in_a_child() -> Callable[..., BaseProcess]:
    """Starts a function in a process of its own.

    The process is forked from a server that has imported everything and run nothing. A new interpreter
    would take seconds to import torch, and autograd does not work in the fork of a process that has used
    it.
    """
    context = multiprocessing.get_context("forkserver")
    # conftest sets the number of threads, on which the last bits depend; sklearn has the digits.
    context.set_forkserver_preload(["conftest", "sklearn.datasets", __name__])

    def start(work: Callable[..., None], *args: Any) -> BaseProcess:
        child = context.Process(target=work, args=args)
        with pytest.MonkeyPatch.context() as patch:
            # The server needs the path to import this module when it starts.
            patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
            child.start()
        return child

    return start


def died(child: BaseProcess) -> bool:
    """Whether a process was killed. If it failed otherwise, the test fails."""
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestKilled:
    """After kill -9 at any moment, also within a save, the resumed run ends with the same bytes."""

    def expect_the_same_end(self, tmp_path: Path, folder: Path) -> None:
        whole = go_on(tmp_path / "whole")
        again = go_on(folder)
        assert same_weights(whole.network, again.network)
        best = "best.safetensors"
        assert (folder / best).read_bytes() == (tmp_path / "whole" / best).read_bytes()
        for one, two in zip(whole.optimizers, again.optimizers, strict=True):
            mine, theirs = one.state_dict()["state"], two.state_dict()["state"]
            assert mine.keys() == theirs.keys()
            for index in mine:
                for slot, value in mine[index].items():
                    assert torch.equal(torch.as_tensor(value), torch.as_tensor(theirs[index][slot]))

    def test_at_random_times(self, tmp_path: Path, in_a_child) -> None:
        generator = random.Random(0)
        kills = 0
        for number in range(8):
            folder = tmp_path / f"killed{number}"
            child = in_a_child(go_on, folder)
            while child.is_alive() and not (folder / CHECKPOINT).exists():
                time.sleep(0.001)
            time.sleep(generator.uniform(0, 0.05))
            child.kill()
            if died(child):
                kills += 1
                self.expect_the_same_end(tmp_path, folder)
        assert kills > 0, "all had ended before"

    @pytest.mark.parametrize("call", ["os.fsync", "os.link", "pathlib.Path.replace", "os.fdopen"])
    @pytest.mark.parametrize("number", [1, 2, 5, 9])
    def test_in_the_middle_of_a_save(
        self, tmp_path: Path, in_a_child, call: str, number: int
    ) -> None:
        folder = tmp_path / "killed"
        assert died(in_a_child(go_on_and_die, folder, call, number))
        check_free(folder, overwrite=True)  # does not raise: the manifest names every file
        self.expect_the_same_end(tmp_path, folder)
