"""Some training images, shown as in a test, to look at a network with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seclcompress.data import Images, Presentation
from seclcompress.trace import eval_mode, floating_dtype
from seclcompress.train.batch_norm import estimate_anew
from seclcompress.train.outputs import OutputReader


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

    def accuracy(self, network: nn.Module, read: OutputReader) -> float:
        """A network's top-1 accuracy in percent of the pictures, in eval mode.

        Args:
            network: The network, on the pictures' device.
            read: Picks the class scores out of its outputs.
        """
        dtype, right = floating_dtype(network), 0
        with eval_mode(network), torch.inference_mode():
            for batch in self.images.read(self.order, self.presentation):
                scores, _ = read(network(batch.images.to(dtype)))
                right += int((scores.argmax(1) == batch.targets).sum())
        return 100 * right / self.count
