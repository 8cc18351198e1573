"""Optimizers, parameter groups and learning rate schedules.

Structured layers name groups of parameters; each group may have a weight decay and a learning rate of
its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from seclcompress.errors import UsageError
from seclcompress.settings.training import GROUPS, TrainingSettings
from seclcompress.slim import Gates
from seclcompress.substitutions import structured_layers

#: The group of parameters that no structured layer names, and the group that the `factor_…` settings
#: apply to.
REST, FACTORS = "rest", "factors"
#: The group of the gates of channels (`slim.gates`).
GATES = "gates"


def factor_decay_by_ratio(weight_decay: float, parameters: int, original_parameters: int) -> float:
    """The authors' rule: weight decay × compressed parameters ÷ original parameters.

    Args:
        weight_decay: The weight decay of the rest of the network.
        parameters: The number of parameters of the compressed network.
        original_parameters: The number of parameters of the original network.
    """
    return weight_decay * parameters / original_parameters


#: The authors' Hyperband found this decay for the diagonals (research log).
FIXED_FACTOR_DECAY = 8.8e-6


def factor_decay(settings: TrainingSettings, parameters: int, original_parameters: int) -> float:
    """The weight decay that an optimizer applies to the structured factors.

    Args:
        settings: The training settings; `factor_decay` is a number or the name of a rule.
        parameters: The number of parameters of the compressed network.
        original_parameters: The number of parameters of the original network.
    """
    rule = settings.factor_decay
    if rule == "ratio":
        return factor_decay_by_ratio(settings.weight_decay, parameters, original_parameters)
    if rule == "fixed":
        return FIXED_FACTOR_DECAY
    return 0.0 if rule == "product" else float(rule)


def parameter_groups(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Sorts a network's parameters into groups; each parameter occurs once, in the network's order.

    The groups are those that structured layers name, and `gates` of a network that has some.

    Returns:
        The groups `rest` and `factors`, then the others in alphabetical order. A parameter that several
        layers share is in the group that the first of these layers names. Empty groups are left out.
    """
    group_of: dict[nn.Parameter, str] = {}
    for layer in structured_layers(network):
        for name, parameters in layer.parameter_groups().items():
            for parameter in parameters:
                group_of.setdefault(parameter, name)
    for gates in (module for module in network.modules() if isinstance(module, Gates)):
        group_of |= dict.fromkeys(gates.parameters(), GATES)
    others = sorted(set(group_of.values()) - {REST, FACTORS})
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in (REST, FACTORS, *others)}
    for parameter in network.parameters():
        groups[group_of.get(parameter, REST)].append(parameter)
    return {name: parameters for name, parameters in groups.items() if parameters}


def make_optimizers(
    network: nn.Module, settings: TrainingSettings, factor_decay: float
) -> list[torch.optim.Optimizer]:
    """Makes one optimizer for all parameters, or one for the structured factors and one for the rest.

    Each group of parameters becomes a parameter group of its optimizer. The parameter group keeps its
    factor on the run's learning rate under the key `lr_share`.

    Args:
        network: The network to train.
        settings: The optimizers, learning rates and decays.
        factor_decay: Weight decay of the structured factors.

    Raises:
        UsageError: If the settings name an unknown group.
    """
    found = parameter_groups(network)
    _check_names(settings, found)
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for name, parameters in found.items():
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        kind, decay = settings.optimizer, settings.weight_decay
        decay, share = settings.group_decay.get(name, decay), settings.group_lr.get(name, 1.0)
        if name == FACTORS:
            kind = kind if settings.factor_optimizer == "same" else settings.factor_optimizer
            decay, share = factor_decay, settings.factor_lr_share
        if trained:
            group = {"params": trained, "weight_decay": decay, "lr_share": share}
            by_kind.setdefault(kind, []).append(group)
    return [_optimizer(kind, groups, settings) for kind, groups in by_kind.items()]


def _check_names(settings: TrainingSettings, found: Mapping[str, object]) -> None:
    """Refuses unknown groups. A known group that this network lacks is accepted."""
    for flag, given in (
        ("--group-decay", settings.group_decay),
        ("--group-lr", settings.group_lr),
    ):
        for name in given:
            if name not in {*found, *GROUPS} - {REST}:
                there = ", ".join(sorted({*found, *GROUPS} - {REST, FACTORS}))
                raise UsageError(
                    f"{flag} {name}: no layer of this network has such a group of parameters. "
                    f"There are: {there}."
                )


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
        optimizers: The optimizers that `make_optimizers` made.
        settings: The highest rate, the schedule and its warm-up.
        done: Epochs done so far, with fractions.

    Returns:
        The rate of a group whose `lr_share` is 1.
    """
    rate = settings.lr * SCHEDULES[settings.lr_scheduler](done / settings.epochs)
    if done < settings.warmup_epochs:
        # At least 0.001 epochs, so that the very first step has a learning rate above 0.
        rate *= min(1.0, max(done, 1e-3) / settings.warmup_epochs)
    set_rate(optimizers, rate)
    return rate


def set_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """Sets every group's learning rate to its share of one.

    Args:
        optimizers: The optimizers that `make_optimizers` made.
        rate: The rate of a group whose `lr_share` is 1.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_share"]


def cosine(done: float) -> float:
    """Falls from 1 to 0 along half a cosine; `done` is the finished share of the training."""
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def step(done: float) -> float:
    """Falls to a fifth at 30, 60 and 80 % (Zagoruyko & Komodakis: epochs 60, 120, 160 of 200)."""
    return float(0.2 ** sum(done >= milestone for milestone in (0.3, 0.6, 0.8)))


SCHEDULES: dict[str, Callable[[float], float]] = {"cosine": cosine, "step": step}
