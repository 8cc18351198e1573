"""Validation images: a share of the training images that is held out, always the same ones."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from seclcompress.data.dataset import Data
from seclcompress.data.images import Images
from seclcompress.errors import DataError


def how_many(share: float, count: int, label: str) -> int:
    """How many images of a class are held out: at least one, and not all.

    Args:
        share: The share of the class, between 0 and 1.
        count: The images of the class.
        label: The class and where it is, for the message.

    Raises:
        DataError: If the class has one image.
    """
    if count < 2:
        raise DataError(
            f"--validation {share:g}: {label} has one image, which cannot be for training and be held "
            "out. Add images, or remove the class."
        )
    return min(max(1, round(share * count)), count - 1)


def hold_out(data: Data, share: float) -> Data:
    """Takes a share of each class of the training images for validation.

    They are the same images for every seed of a run, so that what a teacher was not trained on is not
    shown to its student either.

    Args:
        data: A data set in memory, so that its images can be opened twice.
        share: The share, between 0 and 1.

    Returns:
        The data set with validation images and fewer training images.
    """

    def part(held_out: bool) -> Images:
        images = data.open_train()
        chosen = _chosen(images.labels, share, data) == held_out
        return images.subset(chosen.nonzero()[:, 0])

    return replace(
        data,
        open_train=lambda: part(False),
        open_validation=lambda: part(True),
        notes=(
            *data.notes,
            f"{data.name}: --validation {share:g} of each class of the training images is held out to "
            "choose the best epoch; always the same images.",
        ),
    )


def _chosen(labels: Tensor, share: float, data: Data) -> Tensor:
    """Which images are held out, shape (count,), bool."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(labels), generator=generator)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        of_class = order[labels[order] == label]
        name = data.classes[label] if label < len(data.classes) else label
        count = how_many(share, len(of_class), f"class {name} of {data.name}")
        held[of_class[:count]] = True
    return held
