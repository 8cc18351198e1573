"""Training with several processes gives the same result as with one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import Invoke

from seclcompress import processes
from seclcompress.artefact import load
from seclcompress.errors import UsageError


def history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def by_two(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    start = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
    return subprocess.run(
        [sys.executable, *start, "-m", "seclcompress", *arguments],
        cwd=where,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
def test_two_processes_give_the_loss_curve_of_one(invoke: Invoke, tmp_path: Path) -> None:
    """With equal images per step, synchronised batch norm and summed gradients, the runs are equal.

    The rate is so low that rounding errors do not grow. Images are not in channels_last: there torch's
    batch norm on a CPU adds up one number after another in float32, so that the gradients of one process
    have three digits only, and those of two, which add up in parts, others.
    """
    train = ("train", "wrn10_1", "--data", "digits", "--epochs", "2", "--train-images", "300")
    invoke(*train, "-o", "teacher")
    invoke("convert", "teacher", "-o", "student")
    distill = ("distill", "student", "--teacher", "teacher", "--data", "digits", "--epochs", "2")
    distill += (
        "--train-images",
        "300",
        "--lr",
        "0.002",
        "--alpha",
        "0.5",
        "--crop",
        "--ema",
        "0.5",
    )
    distill += ("--factor-decay", "product", "--untrained-teacher", "--no-channels-last")
    invoke(*distill, "--batch-size", "64", "-o", "one")
    two = by_two(tmp_path, *distill, "--batch-size", "32", "-o", "two")
    assert two.returncode == 0, two.stderr
    assert "× 2 processes = 64 images a step" in two.stderr
    assert two.stderr.count("epoch 2/2") == 1
    assert two.stderr.count("Wrote two") == 1
    for alone, together in zip(history(tmp_path / "one"), history(tmp_path / "two"), strict=True):
        assert together["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-3)
        assert together["test_loss"] == pytest.approx(alone["test_loss"], rel=1e-2)
        assert together["lr"] == alone["lr"]
    first, second = load(tmp_path / "one"), load(tmp_path / "two")
    # After ten steps rounding errors have grown, but the weights still agree.
    a, b = (torch.cat([p.flatten() for p in network.parameters()]) for network in (first, second))
    assert ((a - b).norm() / a.norm()).item() < 0.02


def test_one_process_needs_nothing() -> None:
    with processes.join("cpu") as alone:
        assert (alone.rank, alone.size, alone.first) == (0, 1, True)
        alone.wait()
        assert float(alone.total(torch.tensor(3.0))) == 3


def test_an_environment_that_promises_too_much(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match=r"WORLD_SIZE=2 .* Start them with torchrun"):
        with processes.join("cpu"):
            pass


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize(
    "way", [("--method=gates",), ("--rounds=2",), ("--method=svd", "--rounds=2")]
)
def test_two_processes_lose_the_same_channels(
    invoke: Invoke, tmp_path: Path, way: tuple[str, ...]
) -> None:
    """If they did not, gradients of different shapes would meet, and the run would end in an error."""
    slim = ("slim", "wrn10_1", "--input-size", "8", "--data", "digits", "--epochs", "3", *way)
    slim += ("--budget", "parameters=30k", "--train-images", "300")
    two = by_two(tmp_path, *slim, "--batch-size", "32", "-o", "two")
    assert two.returncode == 0, two.stderr
    assert two.stderr.count("the network keeps its size") == 1
    sizes = [line["parameters"] for line in history(tmp_path / "two")]
    made = load(tmp_path / "two")
    assert sum(p.numel() for p in made.parameters()) == sizes[-1] <= 30_000
    invoke(*slim, "--batch-size", "64", "-o", "one")
    for alone, together in zip(history(tmp_path / "one"), history(tmp_path / "two"), strict=True):
        assert together["parameters"] == pytest.approx(alone["parameters"], rel=0.1)
