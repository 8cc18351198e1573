"""Images of one size in memory, augmented in whole batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from seclcompress.data.augmentation import crop_and_flip, draw, rand_augment
from seclcompress.data.images import Batch, Images, Presentation, finish
from seclcompress.errors import DataError

#: Decoded images of up to this many bytes are moved to the accelerator as a whole and kept there.
_RESIDENT = 4 * 2**30


class Decoded(Images):
    """Images of one size in memory.

    Args:
        pixels: Shape (count, 1 or 3, H, W): uint8, or floating-point from 0 to 1.
        labels: Class indices, shape (count,).
        readable: Shape (count,), bool: False for images that could not be read, which are left out
            of their batches. None if all images could be read.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, readable: Tensor | None = None) -> None:
        self.pixels, self.labels = pixels, labels
        self.readable = readable

    def subset(self, indices: Tensor) -> Images:
        """Returns a selection of the images, given their indices, shape (count,)."""
        readable = None if self.readable is None else self.readable[indices]
        return Decoded(self.pixels[indices], self.labels[indices], readable)

    def read(self, order: Sequence[Tensor], presentation: Presentation) -> Iterator[Batch]:
        """Yields batches in a given order; see `Images.read`."""
        augmentation = presentation.augmentation
        if presentation.device != "cpu" and self.pixels.nbytes <= _RESIDENT:
            self.pixels = self.pixels.to(presentation.device)
        rows = draw(len(self), presentation.seed, presentation.epoch) if augmentation else None
        for wanted in order:
            indices = wanted if self.readable is None else wanted[self.readable[wanted]]
            if not len(indices):
                raise DataError("None of the images of a whole batch can be read.")
            images = self.pixels[indices.to(self.pixels.device)].to(presentation.device)
            mine = None if rows is None else rows[indices]
            if mine is not None and (augmentation.crop or augmentation.flip):
                images = crop_and_flip(images, mine, augmentation.crop, augmentation.flip)
            if mine is not None and augmentation.randaugment:
                images = rand_augment(images, mine, augmentation.randaugment)
            yield Batch(
                finish(images, presentation, mine),
                self.labels[indices].to(presentation.device),
                indices,
            )
