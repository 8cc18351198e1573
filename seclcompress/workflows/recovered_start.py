"""The first stage of `distill --recover`, kept beside the run for as long as it is in progress."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import nn

from seclcompress.artefact import weights_bytes
from seclcompress.data import Data
from seclcompress.files import note, write_file
from seclcompress.networks.weights import put_state
from seclcompress.observer import Observer
from seclcompress.processes import Processes
from seclcompress.settings.recovery import RecoverySettings
from seclcompress.settings.training import TrainingSettings
from seclcompress.trace import whole_copy
from seclcompress.train.identity import identity
from seclcompress.train.view import View
from seclcompress.workflows.taking_over import prepare, take_over

_START, _KEY = "recovered.safetensors", "seclcompress"


@dataclass(frozen=True)
class RecoveredStart:
    """The weights that a run starts from after a recovery.

    Attributes:
        record: What was done, for the folder's configuration; empty in all processes but the first.
        content: The bytes of a safetensors file with the weights and that record.
    """

    record: dict[str, Any]
    content: bytes

    def keep(self, partial: Path) -> None:
        """Writes the weights into the folder of the run in progress, for a resumed run to begin with."""
        note(partial, _START)
        write_file(partial / _START, self.content)


def recovered_start(
    student: nn.Module,
    teacher: nn.Module,
    data: Data,
    labels: tuple[str, str],
    recovery: RecoverySettings,
    settings: TrainingSettings,
    view: View | None,
    kept_in: Path | None,
    processes: Processes,
    observer: Observer,
) -> RecoveredStart:
    """Recovers a student in place, or takes up the weights that an interrupted run began with.

    Args:
        student: The student's network.
        teacher: The teacher's; it is not changed.
        data: The data set.
        labels: How the student and the teacher are called in messages.
        recovery: How to recover.
        settings: The run's settings.
        view: How the teacher sees the student's images; None for as the student does.
        kept_in: The folder of an interrupted run to go on with; None to begin anew.
        processes: This process and the number of processes; process 0 recovers, and the others get
            its weights.
        observer: Is told of each layer.

    Raises:
        UsageError: If no rewritten layer can be recovered, or the teacher is not the original.
    """
    student.to(processes.device)
    start = RecoveredStart({}, b"")
    if processes.first:
        about = {
            **identity(student, teacher, data, 1, view),
            "seed": settings.seed,
            "recovery": recovery.model_dump(),
        }
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        earlier = None if kept_in is None else _read(kept_in / _START, student, key)
        if earlier is None:
            start = _recover(
                student,
                teacher,
                data,
                labels,
                recovery,
                settings,
                view,
                processes.device,
                key,
                observer,
            )
        else:
            observer.message("Begins with the weights that the interrupted run had recovered.")
            start = earlier
    processes.share([*student.parameters(), *student.buffers()])
    return start


def _recover(
    student: nn.Module,
    teacher: nn.Module,
    data: Data,
    labels: tuple[str, str],
    recovery: RecoverySettings,
    settings: TrainingSettings,
    view: View | None,
    device: str,
    key: str,
    observer: Observer,
) -> RecoveredStart:
    shown = teacher
    if view is not None:  # the run shows the teacher its images itself
        shown = whole_copy(teacher)
        view.attach(shown)
    training = settings.model_copy(update={"device": device})
    work = prepare(student, shown.to(device), data, labels, recovery, training, observer)
    done = take_over(work, observer)
    layers = sum(layer.rewritten for layer in done.layers)
    observer.message(
        f"Recovered {layers} layers from {work.count:,} pictures in {done.seconds:.0f} s."
    )
    about = json.dumps({"key": key, "record": done.record})
    return RecoveredStart(done.record, weights_bytes(student, {_KEY: about}))


def _read(path: Path, student: nn.Module, key: str) -> RecoveredStart | None:
    """Loads recovered weights; None if there are none of this run, or they cannot be read."""
    try:
        content = path.read_bytes()
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[_KEY])
        if about["key"] != key:
            return None
        put_state(student, safetensors.torch.load(content))
        return RecoveredStart(dict(about["record"]), content)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError):
        return None  # recovering anew gives the same weights, or the checkpoint refuses others
