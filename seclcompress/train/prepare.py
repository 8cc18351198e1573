"""The network as a run computes with it: over several processes, compiled, with what it minimises."""

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
from seclcompress.train.teacher import Teacher


def augmentation_of(settings: TrainingSettings) -> Augmentation:
    """What happens to an image that is trained on."""
    return Augmentation(
        crop=bool(settings.crop),
        flip=bool(settings.flip),
        cutout=settings.cutout,
        randaugment=settings.randaugment,
    )


def training_presentation(
    data: Data, settings: TrainingSettings, device: str, epoch: int
) -> Presentation:
    """How the training images are seen in an epoch.

    Args:
        data: Whose images.
        settings: How they are augmented, and read.
        device: Where they go.
        epoch: On which the augmentation depends.
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
) -> Iterator[Objective]:
    """The objective of a run, while the block runs; afterwards the network is as it was.

    Args:
        network: What is trained. It is wrapped and compiled as the settings say.
        teacher: Whom it learns from. Where nothing is random about the images it is asked here, once.
        data: What it is trained on.
        settings: How.
        processes: Which of how many this is.
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
    if teacher is not None and still and settings.asks_teacher:
        with autocast(settings, processes.device):
            presentation = training_presentation(data, settings, processes.device, 0)
            teacher.remember(data.train, presentation, settings.batch_size)
    try:
        with Objective(network, forward, settings, len(data.classes), teacher) as objective:
            yield objective
    finally:
        batch_norm.restore(network)
