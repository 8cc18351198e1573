"""Run by test_killed.py: whole commands in forks that are killed at random moments.

One process imports everything once and forks for every command, because a new process would take
seconds. Prints how often the old folder was there after the kill, and how often the new one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import seclcompress
from seclcompress import artefact, data, train  # noqa: F401  (imported once, before the forks)
from seclcompress.cli import app

torch.set_num_threads(1)
OUT = Path("out")
TRAIN = ["--teacher", "teacher", "--data", "digits", "--epochs", "1", "--batch-size", "720"]
COMMANDS = {
    "convert": ["convert", "teacher", "--depth", "2", "--only", "group3"],
    "distill": ["distill", "student", *TRAIN, "--untrained-teacher"],
}


def start(arguments: list[str]) -> int:
    """Runs the command line in a fork; returns its process."""
    pid = os.fork()
    if pid == 0:
        nowhere = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        try:
            app(arguments)
        except SystemExit as end:
            os._exit(int(end.code or 0))
        os._exit(1)
    return pid


def ended(pid: int) -> bool:
    """Whether a process has ended. If it has, it is collected, and its exit code must be 0."""
    done, status = os.waitpid(pid, os.WNOHANG)
    if done and status:
        raise SystemExit(f"ended with {status}: {Path('log').read_text()}")
    return bool(done)


def run(arguments: list[str]) -> tuple[float, float]:
    """Runs a command to its end; returns the seconds before and after the new folder appears."""
    began, appeared = time.monotonic(), 0.0
    pid = start(arguments)
    while not ended(pid):
        if not appeared and list(Path().glob(".out.new.*")):
            appeared = time.monotonic()
        time.sleep(0.0005)
    return appeared - began, time.monotonic() - appeared


def killed(arguments: list[str], moment: float, writing: bool) -> bool:
    """Kills a command `moment` seconds after its start or its new folder; False if it ended before."""
    pid = start(arguments)
    began = 0.0 if writing else time.monotonic()
    while not began or time.monotonic() < began + moment:
        if ended(pid):
            return False
        if not began and list(Path().glob(".out.new.*")):
            began = time.monotonic()
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def main(command: str, count: int) -> None:
    """Kills a command a number of times and checks what is there after each."""
    random.seed(0)
    source = seclcompress.locate("wrn10_1", input_size=(3, 8, 8))
    about = artefact.ArtefactConfig(network=source.network, input_size=source.input_size)
    artefact.save(Path("teacher"), source.load(seed=1)[0], about)
    run(["convert", "teacher", "--depth", "2", "-o", "student"])
    arguments = [*COMMANDS[command], "-o", "out", "--overwrite", "--seed"]
    contents = []
    for seed in ("1", "2"):
        before, writing = run([*arguments, seed])
        contents.append((OUT / artefact.WEIGHTS).read_bytes())
    assert contents[0] != contents[1]
    found = {"old": 0, "new": 0, "killed": 0, "with_partial": 0}
    old = 1
    while found["killed"] < count:
        second_half = bool(found["killed"] % 2)
        moment = random.uniform(0, writing if second_half else before + writing)
        died = killed([*arguments, str(2 - old)], moment, second_half)
        artefact.load(OUT)  # the old or the new folder, which must be whole
        index = contents.index((OUT / artefact.WEIGHTS).read_bytes())
        if died:
            found["killed"] += 1
            found["old" if index == old else "new"] += 1
            found["with_partial"] += Path("out.partial").exists()
        elif second_half:  # the command had ended: later runs are faster than the first
            writing *= 0.9
        else:
            before *= 0.97
        old = index
    run([*arguments, "1"])  # after all kills the command still works
    assert (OUT / artefact.WEIGHTS).read_bytes() == contents[0]
    left = sorted(path.name for path in Path().iterdir())
    assert left == ["log", "out", "student", "teacher"], left
    print(json.dumps(found))


main(sys.argv[1], int(sys.argv[2]))
