"""Some training images, shown as in a test, to look at a network with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seclcompress.data import Images, Presentation
from seclcompress.train.batch_norm import estimate_anew


@dataclass(frozen=True)
class Pictures:
    """The pictures to look with, or to learn from.

    Attributes:
        images: The images.
        order: The indices of each batch's images.
        presentation: How they are shown.
    """

    images: Images
    order: Sequence[Tensor]
    presentation: Presentation

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return sum(len(batch) for batch in self.order)

    def read(self, dtype: torch.dtype) -> Iterator[Tensor]:
        """Yields the batches' images, (batch, *input_size)."""
        for batch in self.images.read(self.order, self.presentation):
            yield batch.images.to(dtype)

    def estimate_batch_norm(self, network: nn.Module) -> None:
        """Estimates batch norm's statistics anew from the pictures."""
        order = [batch for batch in self.order if len(batch) > 1]  # one image has no variance
        estimate_anew(network, self.images, self.presentation, order)
