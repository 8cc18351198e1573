"""In which order images are seen: a function of seed and epoch, so that nothing need be saved."""

from __future__ import annotations

import torch
from torch import Tensor


def seed_of(*parts: int) -> int:
    """One seed from several numbers, the same on every machine.

    Args:
        parts: Such as the run's seed, the epoch and the step.
    """
    mixed = 0
    for part in parts:  # as splitmix64 does: neighbours end far apart
        mixed = (mixed + part + 0x9E3779B97F4A7C15) % 2**64
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
        mixed ^= mixed >> 31
    return mixed >> 1  # torch takes seeds below 2⁶³ on every device


def shuffled(count: int, seed: int, epoch: int) -> Tensor:
    """The order of an epoch's images, shape (count,)."""
    generator = torch.Generator().manual_seed(seed_of(seed, epoch))
    return torch.randperm(count, generator=generator)


def split_into_steps(order: Tensor, images_a_step: int, at_least: int = 2) -> list[Tensor]:
    """Cuts an order into steps.

    Args:
        order: Indices of images, shape (count,).
        images_a_step: How many; the last step may have fewer.
        at_least: A last step of fewer images is left out: batch norm cannot train on one image, and
            every process needs some.
    """
    steps = list(order.split(images_a_step))
    if steps and len(steps[-1]) < at_least:
        steps.pop()
    return steps


def share(step: Tensor, processes: int, rank: int, accumulate: int) -> list[Tensor]:
    """A process's part of a step, in as many batches as are accumulated.

    The parts of all processes together are the step; empty batches are left out.
    """
    mine = step.tensor_split(processes)[rank]
    return [part for part in mine.tensor_split(accumulate) if len(part)]
