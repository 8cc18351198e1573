"""experiments/mnist.py: ACDC layers alone, on digits and on files as MNIST has them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from pictures import write_mnist
from scripts import ROOT, run_script

sys.path.insert(0, str(ROOT / "experiments"))  # as where Python runs a script of that folder

import acdc_classifier

SMALL = ("--work", "work", "--layers", "2", "--epochs", "1", "--seeds", "1")


@pytest.mark.slow
def test_a_stopped_experiment_goes_on(tmp_path: Path) -> None:
    small = (*SMALL, "--side", "8", "--train-images", "64", "--picture", "curves.png")
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


@pytest.mark.slow
def test_the_published_files_are_read(tmp_path: Path) -> None:
    where = ("--data", "mnist", "--data-dir", "data")
    absent = run_script("experiments/mnist.py", tmp_path, *SMALL, *where)
    assert absent.returncode != 0
    assert "mnist is not in data" in absent.stderr  # nothing is downloaded unasked
    write_mnist(tmp_path / "data" / "MNIST" / "raw", 20)
    done = run_script("experiments/mnist.py", tmp_path, *SMALL, *where)
    assert done.returncode == 0, done.stderr
    assert "20 training images, 5 test images" in done.stdout
    assert done.stdout.count("| 3,136 | 1 |") == 4  # 2 layers × 2 diagonals × 28²


@pytest.mark.parametrize("extra_riffle", [False, True])
def test_without_relu_the_network_is_one_linear_map(extra_riffle: bool) -> None:
    sizes = {"side": 4, "layers": 3, "classes": 5, "extra_riffle": extra_riffle}
    torch.manual_seed(0)
    x, y = torch.randn(2, 7, 1, 4, 4)
    linear = acdc_classifier.acdc(relu=False, **sizes)
    torch.testing.assert_close(linear(x - 2 * y), linear(x) - 2 * linear(y), atol=1e-5, rtol=1e-5)
    assert linear(x).shape == (7, 5)
    bent = acdc_classifier.acdc(relu=True, **sizes)
    assert (bent(x - 2 * y) - bent(x) + 2 * bent(y)).abs().max() > 0.1


def test_the_extra_riffle_makes_another_map() -> None:
    x = torch.randn(7, 1, 4, 4)
    torch.manual_seed(0)
    with_it = acdc_classifier.acdc(side=4, layers=2, extra_riffle=True)(x)
    torch.manual_seed(0)
    without = acdc_classifier.acdc(side=4, layers=2, extra_riffle=False)(x)
    assert (with_it - without).abs().max() > 0.1
