"""The identity of a run beside its settings. A checkpoint resumes only a run of the same identity."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

from seclcompress.artefact import weights_bytes
from seclcompress.data import Data
from seclcompress.train.view import View


def identity(
    network: nn.Module,
    teacher: nn.Module | None,
    data: Data,
    processes: int,
    view: View | None = None,
) -> dict[str, Any]:
    """Fingerprints the networks' weights, the images' labels and their presentation.

    Args:
        network: The network before the first step.
        teacher: The teacher; None if there is none.
        data: The data set; its pixels are not read.
        processes: The number of processes that train together.
        view: How the teacher sees the images; None for as the student does.

    Returns:
        A dictionary for the checkpoint; two runs match if their dictionaries are equal.
    """
    return {
        "data": data.name,
        "input_size": list(data.input_size),
        "images": _of_data(data),
        "files": data.files,
        "processes": processes,
        "network": _of_weights(network),
        "teacher": None if teacher is None else _of_weights(teacher),
        "teacher_sees": None if view is None else view.fingerprint(),
    }


def _of_weights(network: nn.Module) -> str:
    return hashlib.sha256(weights_bytes(network)).hexdigest()[:16]


def _of_data(data: Data) -> str:
    """A fingerprint of classes, preprocessing, default augmentation and labels; not of the pixels."""
    digest = hashlib.sha256(repr((data.classes, data.preprocessing, data.crop, data.flip)).encode())
    for images in data.parts.values():
        digest.update(images.labels.to(torch.int64).cpu().numpy().data)
    return digest.hexdigest()[:16]
