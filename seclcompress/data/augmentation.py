"""Random crops, mirror images, Cutout and RandAugment, for a whole batch at once.

The augmentation of an image is a function of the run's seed, the epoch and the image's index. It does
not depend on the batch, the process or the loader. So a run can stop and resume at any step, with any
number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from seclcompress.data.order import seed_of

#: Random numbers per image: crop (2), flip (1), cutout (2), and a seed for transforms that draw their
#: own numbers (1).
_DRAWS = 6


@dataclass(frozen=True)
class Augmentation:
    """The random transformations of the training images.

    Attributes:
        crop: Whether to crop at random.
        flip: Whether to mirror each image with probability 1/2.
        cutout: The side in pixels of a square that is cut out; 0 for none (DeVries & Taylor, 2017).
        randaugment: The magnitude of RandAugment (Cubuk et al., 2020); 0 for none.
    """

    crop: bool = False
    flip: bool = False
    cutout: int = 0
    randaugment: int = 0

    def __bool__(self) -> bool:
        """Whether any transformation is on."""
        return bool(self.crop or self.flip or self.cutout or self.randaugment)


NOTHING_RANDOM = Augmentation()


def draw(count: int, seed: int, epoch: int) -> Tensor:
    """Draws an epoch's random numbers in [0, 1), shape (count, 6): one row per image."""
    generator = torch.Generator().manual_seed(seed_of(seed, epoch, 1))
    return torch.rand(count, _DRAWS, generator=generator)


def image_seed(row: Tensor) -> int:
    """Makes a seed for one image from its row of random numbers, shape (6,)."""
    return int(row[5].double() * 2**24)


def crop_and_flip(images: Tensor, rows: Tensor, crop: bool, flip: bool) -> Tensor:
    """Crops and mirrors images at random.

    For the crop, images are padded with black by an eighth of their longer side. Crop and mirror image
    are computed together, by indexing each image with its own row and column numbers.

    Args:
        images: Shape (batch, channels, H, W), any dtype.
        rows: Random numbers of the images, shape (batch, 6).
        crop: Whether to crop.
        flip: Whether to mirror.

    Returns:
        Images of the same shape, in the channels_last layout.
    """
    height, width = images.shape[2:]
    pad = max(height, width) // 8 if crop else 0
    device = images.device
    y = torch.arange(height, device=device).expand(len(images), -1)
    x = torch.arange(width, device=device).expand(len(images), -1)
    if flip:
        x = torch.where((rows[:, 2] < 0.5).to(device)[:, None], x.flip(1), x)
    if crop:
        images = F.pad(images, [pad] * 4)
        offsets = (rows[:, :2] * (2 * pad + 1)).long().to(device)
        y, x = y + offsets[:, :1], x + offsets[:, 1:]
    each = torch.arange(len(images), device=device)
    return images[each[:, None, None], :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def cut_out(images: Tensor, rows: Tensor, side: int) -> Tensor:
    """Sets a square of each image to 0, the mean of normalised images. It may cross the border.

    Args:
        images: Shape (batch, channels, H, W), normalised.
        rows: Random numbers of the images, shape (batch, 6).
        side: The side of the square in pixels.
    """
    height, width = images.shape[2:]
    device = images.device
    centre = (rows[:, 3:5] * torch.tensor([height, width])).floor().to(device)
    y = torch.arange(height, device=device) - (centre[:, :1] - side // 2)
    x = torch.arange(width, device=device) - (centre[:, 1:] - side // 2)
    rows_cut, columns_cut = (y >= 0) & (y < side), (x >= 0) & (x < side)
    return images.masked_fill((rows_cut[:, :, None] & columns_cut[:, None, :])[:, None], 0)


def rand_augment(images: Tensor, rows: Tensor, magnitude: int) -> Tensor:
    """Applies RandAugment with two operations, drawn separately for each image.

    Args:
        images: Shape (batch, channels, H, W), uint8.
        rows: Random numbers of the images, shape (batch, 6).
        magnitude: From 0 to 30.
    """
    transform = v2.RandAugment(num_ops=2, magnitude=magnitude)
    with torch.random.fork_rng(devices=[]):
        changed = []
        for image, row in zip(images, rows, strict=True):
            torch.default_generator.manual_seed(image_seed(row))
            changed.append(transform(image))
    return torch.stack(changed)
