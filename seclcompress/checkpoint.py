"""What an interrupted training run needs to go on: one safetensors file, written whole, no pickle.

Every epoch seeds torch anew from the run's seed and its own number, so no random state is kept:
weights, the optimiser's tensors and the number of finished epochs are all there is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from seclcompress.errors import TrainingError
from seclcompress.files import write_file

_KEY = "seclcompress"  # one key: the order of several would not be the same every time


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        settings: What the run was started with; a run goes on only with the same.
        history: One record a finished epoch.
    """

    settings: dict[str, Any]
    history: list[dict[str, Any]]


def write_checkpoint(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Writes a checkpoint in one step; an earlier one is there until the new one is whole.

    Raises:
        ArtefactError: If the system refuses; the earlier checkpoint is still there.
    """
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        for slot, value in slots.items():
            if value is not None:
                tensors[f"optimizer.{index}.{slot}"] = torch.as_tensor(value)
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    about = json.dumps({"settings": progress.settings, "history": progress.history})
    write_file(path, safetensors.torch.save(tensors, metadata={_KEY: about}))


def read_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Puts a checkpoint back into a network and an optimiser of the same kind.

    Raises:
        TrainingError: If the file is damaged or belongs to another run.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        progress = Progress(about["settings"], about["history"])
    except Exception as error:
        raise TrainingError(
            f"The checkpoint {path} is damaged or none of ours: {error}. Start anew with --overwrite."
        ) from error
    try:
        network.load_state_dict(_below(tensors, "network."))
        optimizer.load_state_dict(
            {
                "state": _slots(_below(tensors, "optimizer.")),
                "param_groups": optimizer.state_dict()["param_groups"],
            }
        )
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"The checkpoint {path} is for another network: {reason}") from error
    return progress


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _slots(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, slot = name.partition(".")
        state.setdefault(int(index), {})[slot] = value
    return state
