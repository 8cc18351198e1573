"""Optimisers and schedules, with a weight decay of their own for structured factors."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from seclcompress.substitutions import StructuredConv


def factor_decay_by_ratio(weight_decay: float, parameters: int, original_parameters: int) -> float:
    """The authors' rule: the network's own decay × compressed ÷ original parameters.

    Args:
        weight_decay: The network's own.
        parameters: Of the compressed network.
        original_parameters: Of the network it was made from.
    """
    return weight_decay * parameters / original_parameters


def parameter_groups(
    network: nn.Module, weight_decay: float, factor_decay: float
) -> list[dict[str, object]]:
    """Two groups: the structured factors, and everything else.

    Args:
        network: The network to train.
        weight_decay: For everything else.
        factor_decay: For the structured factors.

    Returns:
        Groups for a torch optimiser, without empty ones.
    """
    factors = {
        parameter
        for module in network.modules()
        if isinstance(module, StructuredConv)
        for parameter in module.factors()
    }
    trained = [p for p in network.parameters() if p.requires_grad]
    groups: list[dict[str, object]] = [
        {"params": [p for p in trained if p not in factors], "weight_decay": weight_decay},
        {"params": [p for p in trained if p in factors], "weight_decay": factor_decay},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(
    name: str, groups: list[dict[str, object]], lr: float, momentum: float
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW.

    Args:
        name: `sgd` or `adamw`.
        groups: From `parameter_groups`.
        lr: The highest learning rate.
        momentum: Of SGD.
    """
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, foreach=True)
    return torch.optim.AdamW(groups, lr=lr, foreach=True)


def cosine(done: float) -> float:
    """From 1 to 0 on half a cosine; `done` is the share of the training behind us."""
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def step(done: float) -> float:
    """× 0.2 at 30, 60 and 80 % (Zagoruyko & Komodakis: epochs 60, 120 and 160 of 200)."""
    return float(0.2 ** sum(done >= milestone for milestone in (0.3, 0.6, 0.8)))


SCHEDULES: dict[str, Callable[[float], float]] = {"cosine": cosine, "step": step}
