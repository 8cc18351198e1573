"""What a run is, beside its settings: a checkpoint goes on with nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

from seclcompress.artefact import weights_bytes
from seclcompress.data import Data


def identity(
    network: nn.Module, teacher: nn.Module | None, data: Data, processes: int
) -> dict[str, Any]:
    """Fingerprints of the networks' weights and of all that decides what the images mean.

    Args:
        network: Before the first step.
        teacher: Whom it learns from.
        data: What it is trained and tested on; pixels are not looked at.
        processes: How many train together.
    """
    return {
        "data": data.name,
        "input_size": list(data.input_size),
        "images": _of_data(data),
        "processes": processes,
        "network": _of_weights(network),
        "teacher": None if teacher is None else _of_weights(teacher),
    }


def _of_weights(network: nn.Module) -> str:
    return hashlib.sha256(weights_bytes(network)).hexdigest()[:16]


def _of_data(data: Data) -> str:
    """Of all that decides what the images mean, but for their pixels."""
    digest = hashlib.sha256(repr((data.classes, data.preprocessing, data.crop, data.flip)).encode())
    for images in (data.train, data.test):
        digest.update(images.labels.to(torch.int64).cpu().numpy().data)
    return digest.hexdigest()[:16]
