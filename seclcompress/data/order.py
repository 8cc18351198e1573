"""The order of the images: a function of seed and epoch, so that no order needs to be saved."""

from __future__ import annotations

import torch
from torch import Tensor


def seed_of(*parts: int) -> int:
    """Mixes several numbers into one seed, the same on every machine.

    Args:
        parts: Numbers such as the run's seed, the epoch and the step.
    """
    mixed = 0
    for part in parts:  # splitmix64, which maps neighbouring numbers to distant ones
        mixed = (mixed + part + 0x9E3779B97F4A7C15) % 2**64
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
        mixed ^= mixed >> 31
    return mixed >> 1  # torch takes seeds below 2⁶³ on every device


def shuffled(count: int, seed: int, epoch: int) -> Tensor:
    """The random order of an epoch's images: a permutation of their indices, shape (count,)."""
    generator = torch.Generator().manual_seed(seed_of(seed, epoch))
    return torch.randperm(count, generator=generator)


def split_into_steps(order: Tensor, images_a_step: int, at_least: int = 2) -> list[Tensor]:
    """Splits an order into steps.

    Args:
        order: Indices of images, shape (count,).
        images_a_step: Images in each step; the last step may have fewer.
        at_least: A last step with fewer images than this is left out, because batch norm cannot train
            on one image and every process needs images.

    Returns:
        The indices of each step's images.
    """
    steps = list(order.split(images_a_step))
    if steps and len(steps[-1]) < at_least:
        steps.pop()
    return steps


def share(step: Tensor, processes: int, rank: int, accumulate: int) -> list[Tensor]:
    """One process's share of a step, split into batches whose gradients are accumulated.

    The shares of all processes together make up the step. Empty batches are left out.

    Args:
        step: Indices of the step's images, shape (count,).
        processes: The number of processes.
        rank: The number of this process.
        accumulate: The number of batches.
    """
    mine = step.tensor_split(processes)[rank]
    return [part for part in mine.tensor_split(accumulate) if len(part)]
