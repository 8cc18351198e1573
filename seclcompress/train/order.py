"""What a step is made of: which images, in which batches, and which random numbers."""

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
    """One step of the optimisers.

    Attributes:
        epoch: From 1.
        index: Within the epoch, from 0.
        images: How many it is over, in all processes together.
        parts: The indices of the images of each batch of this process.
        seed: Of what the step draws in this process, in dropout and mixup.
    """

    epoch: int
    index: int
    images: int
    parts: list[Tensor]
    seed: int

    def __str__(self) -> str:
        return f"step {self.index + 1} of epoch {self.epoch}"

    def seed_random_numbers(self) -> None:
        """Makes what the step draws a function of the step alone."""
        torch.manual_seed(self.seed)


def steps_of(
    epoch: int, data: Data, settings: TrainingSettings, processes: Processes
) -> list[Step]:
    """The steps of an epoch, as this process takes part in them."""
    several = processes.size > 1
    together = processes.size * settings.accumulate
    order = shuffled(len(data.train), settings.seed, epoch)
    # Every batch of every process needs an image, and one that batch norm is taken over needs two.
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
