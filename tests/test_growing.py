"""experiments/growing.py: a grown network computes what it did, and a stopped comparison goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from scripts import ROOT, run_script

sys.path.insert(0, str(ROOT / "experiments"))  # as where Python runs a script of that folder

import growing


def test_growth_changes_no_output_and_adds_orthogonal_filters() -> None:
    torch.manual_seed(0)
    network = growing.network_of([4, 6, 5], 10)
    images = torch.rand(8, 3, 16, 16)
    network(images)  # statistics that are not the first ones
    wide = growing.grown(network, 0.0, 10)
    assert growing.widths_of(wide) == [5, 8, 7]
    with torch.no_grad():
        assert torch.allclose(wide.eval()(images), network.eval()(images), atol=1e-6)
    old, new = network[4].weight.flatten(1), wide[4].weight[6:, :4].flatten(1)
    assert (new @ old.T).abs().max() < 1e-5
    assert abs(new[0] @ new[1]) < 1e-5
    assert torch.allclose(new.norm(dim=1), old.norm(dim=1).mean())


def test_a_layer_without_directions_left_stays() -> None:
    torch.manual_seed(0)
    assert len(growing.more_directions(torch.randn(27, 3, 3, 3), 5)) == 0
    assert len(growing.more_directions(torch.randn(25, 3, 3, 3), 5)) == 2
    network = growing.network_of([4, 4, 4], 10)
    assert growing.grown(network, 1.0, 10) is network


@pytest.mark.slow
def test_a_stopped_comparison_goes_on(tmp_path: Path) -> None:
    small = ("--work", "work", "--images", "200", "--epochs", "4", "--seeds", "1", "--shares", "0")
    done = run_script("experiments/growing.py", tmp_path, *small)
    assert done.returncode == 0, done.stderr
    assert "| digits | 0 | 7+7+7 |" in done.stdout
    again = run_script("experiments/growing.py", tmp_path, *small)
    assert again.stdout == done.stdout
