"""Prepares a network for a run: distributed over processes, compiled, together with its loss."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from seclcompress.data import Augmentation, Data, Presentation
from seclcompress.processes import Processes
from seclcompress.settings.training import TrainingSettings
from seclcompress.train import batch_norm
from seclcompress.train.environment import autocast
from seclcompress.train.objective import Objective
from seclcompress.train.outputs import OutputReader
from seclcompress.train.teacher import Teacher


def augmentation_of(settings: TrainingSettings) -> Augmentation:
    """The random transformations of training images that the settings ask for."""
    return Augmentation(
        crop=bool(settings.crop),
        flip=bool(settings.flip),
        cutout=settings.cutout,
        randaugment=settings.randaugment,
    )


def training_presentation(
    data: Data, settings: TrainingSettings, device: str, epoch: int
) -> Presentation:
    """How the training images are shown in an epoch.

    Args:
        data: The data set.
        settings: The augmentation, the seed and the number of workers.
        device: The device that batches are moved to.
        epoch: The epoch, on which the augmentation depends.
    """
    return Presentation(
        data.input_size,
        data.preprocessing,
        augmentation_of(settings),
        settings.seed,
        epoch,
        device,
        settings.workers,
    )


@contextlib.contextmanager
def prepared(
    network: nn.Module,
    teacher: Teacher | None,
    data: Data,
    settings: TrainingSettings,
    processes: Processes,
    read: OutputReader,
) -> Iterator[Objective]:
    """Yields the objective of a run for the duration of a block; then restores the network.

    Args:
        network: The network to train. It is wrapped and compiled as the settings ask.
        teacher: The teacher. If the training images are not random, its outputs are computed here, once.
        data: The data set.
        settings: The training settings.
        processes: This process and the number of processes.
        read: Picks the class scores out of the network's outputs.
    """
    several = processes.size > 1
    if several and settings.sync_batch_norm:
        batch_norm.synchronise(network)
    forward = network
    if settings.compile:
        forward = torch.compile(forward)  # type: ignore[assignment]
        if teacher is not None:
            teacher.compile()
    if several:
        forward = DistributedDataParallel(forward, find_unused_parameters=True)
    still = not augmentation_of(settings) and settings.mixup == settings.cutmix == 0
    if teacher is not None and still and settings.asks_teacher and not teacher.remembers:
        with autocast(settings, processes.device):
            presentation = training_presentation(data, settings, processes.device, 0)
            teacher.remember(data.train, presentation, settings.batch_size)
    try:
        with Objective(network, forward, settings, read, teacher) as objective:
            yield objective
    finally:
        batch_norm.restore(network)
