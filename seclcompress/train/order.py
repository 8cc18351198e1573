"""The composition of a step: its images, its batches and its random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seclcompress.data import Data, split_into_steps
from seclcompress.data.order import seed_of, share, shuffled
from seclcompress.processes import Processes
from seclcompress.settings.training import TrainingSettings


@dataclass(frozen=True)
class Step:
    """One step of the optimizers.

    Attributes:
        epoch: The epoch, from 1.
        index: The number of the step within the epoch, from 0.
        images: The number of images in the step, over all processes.
        parts: The indices of the images of each batch of this process.
        seed: The seed of random numbers drawn during the step in this process (dropout, mixup).
    """

    epoch: int
    index: int
    images: int
    parts: list[Tensor]
    seed: int

    def __str__(self) -> str:
        return f"step {self.index + 1} of epoch {self.epoch}"

    @property
    def is_first(self) -> bool:
        """Whether it is the first step of the run."""
        return self.epoch == 1 and self.index == 0

    def seed_random_numbers(self) -> None:
        """Seeds torch, so that random numbers drawn during the step depend on the step alone."""
        torch.manual_seed(self.seed)


def steps_of(
    epoch: int, data: Data, settings: TrainingSettings, processes: Processes
) -> list[Step]:
    """The steps of an epoch, each with this process's share of the images.

    Args:
        epoch: The epoch, from 1.
        data: The data set.
        settings: The seed, the batch size and the number of accumulated batches.
        processes: This process and the number of processes.

    Returns:
        The steps. A last step with too few images is left out.
    """
    several = processes.size > 1
    together = processes.size * settings.accumulate
    order = shuffled(len(data.train), settings.seed, epoch)
    # Every batch of every process needs an image. Batch norm needs two: over all processes if it is
    # synchronised, in each batch otherwise.
    shared = settings.sync_batch_norm and several
    at_least = max(2, together if shared else 2 * together)
    alone = together == 1 and len(order) == 1
    steps = split_into_steps(order, settings.batch_size * together, 1 if alone else at_least)
    return [
        Step(
            epoch,
            index,
            len(images),
            share(images, processes.size, processes.rank, settings.accumulate),
            seed_of(settings.seed, epoch, index, processes.rank, 2),
        )
        for index, images in enumerate(steps)
    ]
