"""What images are: labels, and batches of them in a given order, shown to a network in a given way."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as VF

from seclcompress.data.augmentation import NOTHING_RANDOM, Augmentation, cut_out
from seclcompress.preprocessing import Preprocessing


class Batch(NamedTuple):
    """Normalised images, (batch, channels, H, W); class indices and indices in the data, (batch,)."""

    images: Tensor
    targets: Tensor
    indices: Tensor


@dataclass(frozen=True)
class Presentation:
    """How images are shown to a network.

    Attributes:
        input_size: (channels, H, W).
        preprocessing: Size, mean and standard deviation.
        augmentation: Random transformations; none by default.
        seed: The run's seed, for the random numbers.
        epoch: The epoch, for the random numbers.
        device: The device that batches are moved to.
        workers: Processes that load files; 0 to load them in this process.
    """

    input_size: tuple[int, ...]
    preprocessing: Preprocessing
    augmentation: Augmentation = NOTHING_RANDOM
    seed: int = 0
    epoch: int = 0
    device: str = "cpu"
    workers: int = 0


class Images(ABC):
    """Images with labels.

    Attributes:
        labels: Class indices, shape (count,).
    """

    labels: Tensor

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.labels)

    def relabelled(self, indices: Tensor) -> Images:
        """Returns the same images under other class indices.

        Args:
            indices: The new index of each class, shape (classes,).
        """
        other = copy.copy(self)
        other.labels = indices[self.labels]
        return other

    @abstractmethod
    def subset(self, indices: Tensor) -> Images:
        """Returns a selection of the images, given their indices, shape (count,)."""

    @abstractmethod
    def read(self, order: Sequence[Tensor], presentation: Presentation) -> Iterator[Batch]:
        """Yields batches in a given order.

        Args:
            order: The indices of each batch's images.
            presentation: How the images are shown.

        Raises:
            DataError: If an image cannot be read and may not be left out.
        """


def interpolation(preprocessing: Preprocessing) -> InterpolationMode:
    """Torchvision's name of the interpolation that resizes images."""
    return InterpolationMode(preprocessing.interpolation)


def finish(images: Tensor, presentation: Presentation, rows: Tensor | None) -> Tensor:
    """Resizes, normalises and cuts out: the steps common to images from memory and from files.

    Args:
        images: Shape (batch, channels, H, W): uint8, or floating-point values, which are taken as they
            are. Grey images become coloured ones, and coloured ones grey, as the input size asks.
        presentation: How the images are shown.
        rows: Random numbers of the images, shape (batch, 6); None for no Cutout.

    Returns:
        Shape (batch, *input_size), normalised.
    """
    channels, *size = presentation.input_size
    if list(images.shape[2:]) != size:
        images = VF.resize(
            images, size, interpolation=interpolation(presentation.preprocessing), antialias=True
        )
    if channels == 1 and images.shape[1] == 3:
        images = VF.rgb_to_grayscale(images)
    if images.dtype == torch.uint8:
        images = images.float().div_(255)
    mean, std = (
        torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None]
        for values in (presentation.preprocessing.mean, presentation.preprocessing.std)
    )
    images = (images - mean) / std  # with three means, one grey channel becomes three
    if images.shape[1] == 1 != channels:
        images = images.repeat(1, channels, 1, 1)
    if rows is not None and presentation.augmentation.cutout:
        images = cut_out(images, rows, presentation.augmentation.cutout)
    return images
