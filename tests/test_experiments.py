"""The scripts of experiments/ run, on a CPU, as far as a test can wait."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pictures import write_mnist
from scripts import ROOT, run_script


def test_table_1_goes_on_where_it_stopped(tmp_path: Path) -> None:
    small = ("--data", "digits", "--work", "work", "--network", "wrn10_1", "--epochs", "1")
    small += ("--train-images", "100", "--device", "cpu", "--amp", "off", "--no-compile")
    none = run_script("experiments/table1.py", tmp_path, *small, "--minutes", "0.1")
    assert none.returncode == 3  # no time is left to start anything
    assert not (tmp_path / "work/teacher").exists()
    done = run_script("experiments/table1.py", tmp_path, *small)
    assert done.returncode == 0, done.stderr
    assert "| teacher | 77,850 |" in done.stdout
    assert "| SECL, distilled | 10,634 |" in done.stdout
    again = run_script("experiments/table1.py", tmp_path, *small)
    assert again.returncode == 0
    assert done.stdout.count("Making ") == 2
    assert "Making " not in again.stdout  # nothing is done twice


@pytest.mark.slow
def test_the_study_runs_each_of_its_lines(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "experiments")!r})
import study
study.NETWORK = "wrn10_1"
study.TEACHER = {{"epochs": 1, "train_images": 64}}
study.BUDGET = {{"epochs": 1, "train_images": 64, "batch_size": 32, "lr": 0.1}}
sys.argv = ["study.py", "--data", "digits", "--work", "work", "--picture", "curves.png"]
study.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr
    assert "not run" not in done.stdout
    assert done.stdout.count("\n| ") >= 15
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


SMALL_MNIST = ("--work", "work", "--layers", "2", "--epochs", "1", "--seeds", "1")


def test_mnist_by_acdc_layers_alone(tmp_path: Path) -> None:
    small = (*SMALL_MNIST, "--side", "8", "--train-images", "64", "--picture", "curves.png")
    done = run_script("experiments/mnist.py", tmp_path, *small)
    assert done.returncode == 0, done.stderr
    numbers = [row.split(" | ")[1] for row in done.stdout.splitlines() if " | 1 | " in row]
    assert numbers == ["256"] * 4 + ["650"]  # 2 layers × 2 diagonals × 64; 64 × 10 + 10
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    again = run_script("experiments/mnist.py", tmp_path, *small)
    assert again.returncode == 0, again.stderr
    assert done.stdout.count("Making ") == 5
    assert "Making " not in again.stdout  # nothing is done twice
    assert done.stdout.endswith(again.stdout)


def test_mnist_reads_the_published_files(tmp_path: Path) -> None:
    where = ("--data", "mnist", "--data-dir", "data")
    absent = run_script("experiments/mnist.py", tmp_path, *SMALL_MNIST, *where)
    assert absent.returncode != 0
    assert "mnist is not in data" in absent.stderr  # nothing is downloaded unasked
    write_mnist(tmp_path / "data" / "MNIST" / "raw", 20)
    done = run_script("experiments/mnist.py", tmp_path, *SMALL_MNIST, *where)
    assert done.returncode == 0, done.stderr
    assert "20 training images, 5 test images" in done.stdout
    assert done.stdout.count("| 3,136 | 1 |") == 4  # 2 layers × 2 diagonals × 28²
