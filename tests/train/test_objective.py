"""Penalties on weights: symmetry, alone and beside the decay of products."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Invoke
from runs import Silent, digits
from torch import nn

from seclcompress import substitutions
from seclcompress.errors import UsageError
from seclcompress.losses import asymmetry
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import Trainer
from seclcompress.train.objective import Objective, square_convolutions


def objective(network: nn.Module, **settings: object) -> Objective:
    return Objective(network, network, TrainingSettings(**settings), nn.Identity(), None)


def test_the_formula() -> None:
    weight = torch.tensor([[1.0, 5.0], [2.0, 7.0]]).reshape(2, 2, 1, 1)
    assert float(asymmetry([weight, weight], 0.5, "l1")) == 6
    assert float(asymmetry([weight], 0.5, "l2")) == pytest.approx(0.5 * 18**0.5)
    assert float(asymmetry([], 0.5, "l2")) == 0


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_a_symmetric_weight_has_no_gradient(norm: str) -> None:
    weight = torch.ones(3, 3, 3, 3, requires_grad=True)
    asymmetry([weight], 1.0, norm).backward()
    assert weight.grad is not None
    assert not weight.grad.any()


def test_it_applies_to_square_convolutions_that_are_trained() -> None:
    family = substitutions.get("separable")
    frozen = nn.Conv2d(8, 8, 3).requires_grad_(False)
    square, point = nn.Conv2d(8, 8, 3), nn.Conv1d(4, 4, 1)
    structured = family.build(nn.Conv2d(1, 1, 3), family.config({}))
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), square, nn.Conv2d(8, 8, 3, groups=2), frozen, structured, point
    )
    assert square_convolutions(network) == [square, point]
    penalty = objective(network, symmetry_penalty=0.1, symmetry_norm="l2").penalty()
    assert torch.equal(penalty, asymmetry([square.weight, point.weight], 0.1, "l2"))


def test_it_is_added_to_the_decay_of_products() -> None:
    family = substitutions.get("acdc")
    network = nn.Sequential(family.build(nn.Conv2d(8, 8, 3), family.config({})), nn.Conv2d(8, 8, 3))
    settings = {"factor_decay": "product", "weight_decay": 0.5}
    alone = objective(network, **settings).penalty()
    both = objective(network, **settings, symmetry_penalty=0.1).penalty()
    torch.testing.assert_close(both - alone, asymmetry([network[1].weight], 0.1, "l1"))


def test_without_one_there_is_none() -> None:
    assert objective(nn.Sequential(nn.Conv2d(8, 8, 3))).penalty() is None
    assert square_convolutions(nn.Linear(3, 3)) == []


def test_nothing_to_apply_to_is_said() -> None:
    with pytest.raises(UsageError, match=r"--symmetry-penalty 0\.1 has nothing to apply to"):
        objective(nn.Sequential(nn.Conv2d(3, 8, 3)), symmetry_penalty=0.1)


def test_a_run_becomes_symmetric_and_converts_with_little_loss(tmp_path: Path) -> None:
    family = substitutions.get("symmetric")
    left = {}
    for rho in (0.0, 0.3):
        torch.manual_seed(0)
        conv = nn.Conv2d(8, 8, 3, padding=1)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            conv,
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 10),
        )
        settings = {
            "epochs": 3,
            "batch_size": 20,
            "symmetry_penalty": rho,
            "symmetry_norm": "l2",
            "lr": 0.05,
        }
        folder = tmp_path / str(rho)
        folder.mkdir()
        Trainer(network, digits(), TrainingSettings(**settings), folder, observer=Silent()).run()
        fit = family.build(conv, family.config({})).fit(conv)
        assert fit is not None
        left[rho] = fit.left
    assert left[0.3] < left[0.0] / 4


def test_on_the_command_line(invoke: Invoke) -> None:
    how = ("--data", "digits", "--epochs", 1, "--train-images", 40, "--batch-size", 20)
    penalty = ("--symmetry-penalty", "1e-4", "--symmetry-norm", "l2")
    invoke("train", "wrn10_1", *how, *penalty, "-o", "run")
    start = ("--substitution", "symmetric", "--start", "original")
    converted = invoke("convert", "run", *start, "-o", "converted")
    assert "energy" in converted.stderr + converted.stdout
    refused = invoke("train", "wrn10_1", *how, "--symmetry-penalty", "-1", "-o", "other", code=2)
    assert "--symmetry-penalty" in refused.stderr
