"""Checkpoints of a training run: safetensors files, each written whole, without pickle.

A checkpoint holds the network's weights, their moving average if there is one, the optimizers' tensors
and the run's progress. It holds no random state: the order of the images, augmentation and dropout are
functions of the run's seed, the epoch and the step. So a resumed run computes exactly what the
uninterrupted run would have computed. The last two checkpoints are kept; if the newer one is damaged,
the run resumes from the older one.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from seclcompress.errors import SeclcompressWarning, TrainingError
from seclcompress.files import give_second_name, note, write_file
from seclcompress.networks.weights import put_state

CHECKPOINT, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"
_AVERAGE = "average."
_KEY = "seclcompress"  # a single metadata key: safetensors does not fix the order of several


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        settings: The settings and the identity that the run was started with (see
            `train.resume.started_with`). A run is resumed only with the same ones.
        history: One record per finished epoch.
        step: Steps done in the current epoch, the one after those in `history`.
        loss: The training loss, summed over the images of the current epoch so far.
        images: The number of those images.
        seconds: Seconds spent in the current epoch so far.
        loading: Of `seconds`, those spent waiting for images.
        before: Accuracies from before the first step, in percent.
        scaler: State of the gradient scaler; empty unless `amp` is fp16.
        shrinking: What a network that loses channels meanwhile has lost (`train.shrinking`); empty for
            any other.
    """

    settings: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    loss: float = 0.0
    images: int = 0
    seconds: float = 0.0
    loading: float = 0.0
    before: dict[str, float] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    shrinking: dict[str, Any] = field(default_factory=dict)


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint, current or previous."""
    return (folder / CHECKPOINT).is_file() or (folder / PREVIOUS).is_file()


def write_checkpoint(
    folder: Path,
    network: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    progress: Progress,
    average: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes a checkpoint in one step and keeps the one before as `checkpoint.previous.safetensors`.

    Args:
        folder: The folder of the run in progress.
        network: The network, with the weights that the next step starts from.
        optimizers: The optimizers.
        progress: How far the run has come.
        average: The moving average of the weights, by name.

    Raises:
        ArtefactError: If the file cannot be written; the earlier checkpoint is then still there.
    """
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"{_AVERAGE}{name}": value for name, value in (average or {}).items()}
    for number, optimizer in enumerate(optimizers):
        for index, slots in optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                if value is not None:
                    tensors[f"optimizer.{number}.{index}.{slot}"] = torch.as_tensor(value)
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    about = {**asdict(progress), "digest": _digest(tensors)}
    content = safetensors.torch.save(tensors, metadata={_KEY: json.dumps(about)})
    note(folder, CHECKPOINT, PREVIOUS)
    if (folder / CHECKPOINT).is_file():  # without hard links, only one checkpoint is kept
        give_second_name(folder / CHECKPOINT, folder / PREVIOUS)
    write_file(folder / CHECKPOINT, content)


def read_checkpoint(
    folder: Path,
    network: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    average: Mapping[str, Tensor] | None = None,
    fit: Callable[[Progress], object] = lambda _: None,
) -> Progress:
    """Loads a checkpoint into a network and optimizers of the same structure.

    If the last checkpoint is damaged, the previous one is loaded, with a warning.

    Args:
        folder: The folder of the run in progress.
        network: Receives the weights.
        optimizers: Receive their tensors.
        average: The moving average of the weights, by name; receives its values in place. It is left as
            it is if the checkpoint has none: the settings, which the caller compares, then differ.
        fit: Is called with the progress of a checkpoint that is whole, before its tensors are loaded, to
            bring the network into the shape that it had.

    Returns:
        How far the run had come.

    Raises:
        TrainingError: If there is no checkpoint, all are damaged, or the tensors do not fit the network
            or the optimizers.
    """
    complaints = []
    for path in (folder / CHECKPOINT, folder / PREVIOUS):
        if not path.is_file():
            continue
        try:
            progress, tensors = _read(path)
        except Exception as error:
            complaints.append(f"The checkpoint {path} is damaged: {error}.")
            continue
        if complaints:
            at = f"epoch {len(progress.history) + 1}, step {progress.step}"
            warnings.warn(
                f"{complaints[0]} Going on from the one before it ({at}).",
                SeclcompressWarning,
                stacklevel=2,
            )
        fit(progress)
        _put_back(path, tensors, network, optimizers, average or {})
        return progress
    if not complaints:
        raise TrainingError(f"There is no interrupted run in {folder} to go on with.")
    raise TrainingError(f"{' '.join(complaints)} Start anew with --overwrite.")


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """A checksum of names and values, to detect a flipped bit in a file that still parses."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> tuple[Progress, dict[str, Tensor]]:
    with safetensors.safe_open(path, framework="pt") as file:
        about = json.loads((file.metadata() or {})[_KEY])
        # Cloned, because the file is mapped, and may be written over later.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if _digest(tensors) != about.pop("digest"):
        raise ValueError("its checksum does not agree")
    return Progress(**about), tensors


def _put_back(
    path: Path,
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    average: Mapping[str, Tensor],
) -> None:
    try:
        put_state(network, _below(tensors, "network."))
        for number, optimizer in enumerate(optimizers):
            groups = optimizer.state_dict()["param_groups"]
            state = _slots(_below(tensors, f"optimizer.{number}."))
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        averaged = _below(tensors, _AVERAGE)
        if averaged:
            for name, mine in average.items():
                mine.copy_(averaged[name])
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"The checkpoint {path} is for another network: {reason}") from error


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _slots(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, slot = name.partition(".")
        state.setdefault(int(index), {})[slot] = value
    return state
