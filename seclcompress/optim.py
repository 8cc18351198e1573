"""Optimisers and schedules, with a decay and a learning rate of their own for structured factors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from seclcompress.settings.training import TrainingSettings
from seclcompress.substitutions import structured_layers


def factor_decay_by_ratio(weight_decay: float, parameters: int, original_parameters: int) -> float:
    """The authors' rule: the network's own decay × compressed ÷ original parameters.

    Args:
        weight_decay: The network's own.
        parameters: Of the compressed network.
        original_parameters: Of the network it was made from.
    """
    return weight_decay * parameters / original_parameters


#: The authors' Hyperband found this decay for the diagonals (research log).
FIXED_FACTOR_DECAY = 8.8e-6


def factor_decay(settings: TrainingSettings, parameters: int, original_parameters: int) -> float:
    """The weight decay that an optimiser applies to the structured factors.

    Args:
        settings: Their `factor_decay` is a number or the name of a rule.
        parameters: Of the compressed network.
        original_parameters: Of the network it was made from.
    """
    rule = settings.factor_decay
    if rule == "ratio":
        return factor_decay_by_ratio(settings.weight_decay, parameters, original_parameters)
    if rule == "fixed":
        return FIXED_FACTOR_DECAY
    return 0.0 if rule == "product" else float(rule)


def structured_factors(network: nn.Module) -> set[nn.Parameter]:
    """The structured factors among a network's parameters."""
    return {
        parameter
        for layer in structured_layers(network)
        for parameter in layer.parameter_groups().get("factors", ())
    }


def make_optimizers(
    network: nn.Module, settings: TrainingSettings, factor_decay: float
) -> list[torch.optim.Optimizer]:
    """One optimiser for everything, or a second one for the structured factors.

    Each parameter group keeps its share of the run's learning rate in `lr_share`.

    Args:
        network: The network to train.
        settings: Which optimisers, learning rates and decays.
        factor_decay: Weight decay of the structured factors.
    """
    factors = structured_factors(network)
    trained = [p for p in network.parameters() if p.requires_grad]
    rest: dict[str, Any] = {
        "params": [p for p in trained if p not in factors],
        "weight_decay": settings.weight_decay,
        "lr_share": 1.0,
    }
    own: dict[str, Any] = {
        "params": [p for p in trained if p in factors],
        "weight_decay": factor_decay,
        "lr_share": settings.factor_lr_share,
    }
    apart = settings.factor_optimizer != "same" and settings.factor_optimizer != settings.optimizer
    if not apart:
        groups = [group for group in (rest, own) if group["params"]]
        return [_optimizer(settings.optimizer, groups, settings)]
    kinds = ((settings.optimizer, rest), (settings.factor_optimizer, own))
    return [_optimizer(kind, [group], settings) for kind, group in kinds if group["params"]]


def _optimizer(
    kind: str, groups: list[dict[str, Any]], settings: TrainingSettings
) -> torch.optim.Optimizer:
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, foreach=True)
    return torch.optim.AdamW(groups, lr=settings.lr, foreach=True)


def set_learning_rate(
    optimizers: list[torch.optim.Optimizer], settings: TrainingSettings, done: float
) -> float:
    """Sets every group's learning rate.

    Args:
        optimizers: Of `make_optimizers`.
        settings: The highest rate, the schedule and its warm-up.
        done: Epochs behind us, with fractions.

    Returns:
        The rate of a group with a share of 1.
    """
    rate = settings.lr * SCHEDULES[settings.lr_scheduler](done / settings.epochs)
    if done < settings.warmup_epochs:
        # The first step is one step's way up, not nothing at all.
        rate *= min(1.0, max(done, 1e-3) / settings.warmup_epochs)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_share"]
    return rate


def cosine(done: float) -> float:
    """From 1 to 0 on half a cosine; `done` is the share of the training behind us."""
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def step(done: float) -> float:
    """× 0.2 at 30, 60 and 80 % (Zagoruyko & Komodakis: epochs 60, 120 and 160 of 200)."""
    return float(0.2 ** sum(done >= milestone for milestone in (0.3, 0.6, 0.8)))


SCHEDULES: dict[str, Callable[[float], float]] = {"cosine": cosine, "step": step}
