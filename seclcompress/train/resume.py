"""Going on with an interrupted run: only with the same settings, networks and images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seclcompress.checkpoint import Progress, read_checkpoint
from seclcompress.errors import TrainingError
from seclcompress.settings.training import INCIDENTAL, TrainingSettings


def started_with(settings: TrainingSettings, identity: dict[str, Any]) -> dict[str, Any]:
    """All that decides what a run computes, as a checkpoint keeps it.

    Args:
        settings: How it trains.
        identity: Of its networks and data, as `identity.identity` gives it.
    """
    chosen: dict[str, Any] = json.loads(settings.model_dump_json(exclude=set(INCIDENTAL)))
    return {**chosen, **identity}


def resume(
    folder: Path,
    network: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    mine: dict[str, Any],
) -> Progress:
    """Puts the state of the run in a folder back.

    Args:
        folder: Of work in progress.
        network: Gets the weights.
        optimizers: Get their tensors.
        scaler: Gets its scale.
        mine: What this run was started with; the run in the folder must agree.

    Returns:
        How far that run has come.

    Raises:
        TrainingError: If there is none, or it was started with other settings.
    """
    progress = read_checkpoint(folder, network, optimizers)
    different = sorted(
        f"{key} was {progress.settings.get(key)!r}, not {mine.get(key)!r}"
        for key in mine.keys() | progress.settings.keys()
        if mine.get(key) != progress.settings.get(key)
    )
    if different:
        raise TrainingError(
            f"The run in {folder} was started with other settings: {'; '.join(different)}. "
            "Resume it with the same ones, or start anew with --overwrite."
        )
    if progress.scaler:
        scaler.load_state_dict(progress.scaler)
    return progress
