"""Resumes an interrupted run, exactly.

A run draws all random numbers from its seed, the epoch and the step (see `order` and
`data.augmentation`). So the checkpointed weights, optimizer tensors and number of steps determine the
rest of the run, provided that settings, networks and images are the same; this module compares them.
"""

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
from seclcompress.train.average import Average
from seclcompress.train.shrinking import Shrinking


def started_with(settings: TrainingSettings, identity: dict[str, Any]) -> dict[str, Any]:
    """Everything that decides the result of a run, in the form that a checkpoint keeps.

    Args:
        settings: The training settings; the `INCIDENTAL` ones are left out.
        identity: The identity of networks and data, from `identity.identity`.
    """
    chosen: dict[str, Any] = json.loads(settings.model_dump_json(exclude=set(INCIDENTAL)))
    return {**chosen, **identity}


def resume(
    folder: Path,
    network: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    average: Average,
    mine: dict[str, Any],
    shrinking: Shrinking | None = None,
) -> Progress:
    """Restores the state of an interrupted run.

    Args:
        folder: The folder of the run in progress.
        network: Receives the weights.
        optimizers: Receive their tensors.
        scaler: Receives its state.
        average: Receives its values.
        mine: What this run was started with (`started_with`); the run in the folder must match it.
        shrinking: What the network loses meanwhile; None for a network that keeps its channels.

    Returns:
        How far the interrupted run had come.

    Raises:
        TrainingError: If there is no checkpoint that can be read, or its run was started with different
            settings, networks or images.
    """

    def fit(progress: Progress) -> None:
        check_same(folder, progress, mine)
        if shrinking is not None:
            shrinking.restore(progress.shrinking, optimizers, average.values)

    progress = read_checkpoint(folder, network, optimizers, average.values, fit)
    if progress.scaler:
        scaler.load_state_dict(progress.scaler)
    return progress


def check_same(folder: Path, progress: Progress, mine: dict[str, Any]) -> None:
    """Checks that an interrupted run was started with the same settings, networks and images.

    Args:
        folder: The folder of the run.
        progress: How far it had come.
        mine: What this run was started with.

    Raises:
        TrainingError: If it was not; the message names what differs.
    """
    # A setting that came after the checkpoint was written had its default then.
    theirs = {**started_with(TrainingSettings(), {}), **progress.settings}
    theirs.setdefault("files", mine.get("files"))  # a fingerprint that 0.1 did not take
    different = sorted(
        f"{key} was {theirs.get(key)!r}, not {mine.get(key)!r}"
        for key in mine.keys() | theirs.keys()
        if mine.get(key) != theirs.get(key)
    )
    if different:
        raise TrainingError(
            f"The run in {folder} was started with other settings: {'; '.join(different)}. "
            "Resume it with the same ones, or start anew with --overwrite."
        )
