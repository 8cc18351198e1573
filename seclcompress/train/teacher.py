"""What the teacher says about images: class scores and attention maps, asked each time or remembered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seclcompress.data import Batch, Images, Presentation
from seclcompress.losses import attention_map
from seclcompress.taps import Taps
from seclcompress.trace import floating_dtype
from seclcompress.train.evaluation import in_order, logits

#: What is remembered may take so many bytes.
_MEMORY = 2**30


@dataclass(frozen=True)
class Lesson:
    """The teacher's class scores (batch, classes), and its attention maps, each (batch, positions)."""

    scores: Tensor
    maps: list[Tensor]


class Teacher:
    """A trained network that is only ever run in eval mode and inference mode.

    Args:
        network: On the device where it is to run; frozen.
        taps: Modules whose attention is compared.
    """

    def __init__(self, network: nn.Module, taps: tuple[str, ...]) -> None:
        self.network = network.eval().requires_grad_(False)
        self._run: nn.Module = self.network
        self._taps = Taps(self.network, taps)
        self._dtype = floating_dtype(network)
        self._taps.__enter__()  # for good: a compiled network sees the taps that it began with
        self._remembered: list[Tensor] | None = None

    def compile(self) -> None:
        """Lets torch compile it."""
        self._run = torch.compile(self.network)  # type: ignore[assignment]

    def teach(self, batch: Batch) -> Lesson:
        """What it says about a batch, as tensors that autograd may keep."""
        if self._remembered is not None:
            device = batch.images.device
            scores, *maps = (kept[batch.indices].to(device) for kept in self._remembered)
        else:
            # Tensors made in inference mode cannot be kept for a backward pass; their copies can.
            scores, *maps = (tensor.clone() for tensor in self._ask(batch.images))
        return Lesson(scores, maps)

    def remember(self, images: Images, presentation: Presentation, batch_size: int) -> bool:
        """Asks once about all images, in their order, so that an epoch need not ask again.

        Args:
            images: The training images.
            presentation: How they are seen; nothing may be random about it.
            batch_size: Images at once.

        Returns:
            Whether it is remembered; not, where it would take too much memory.
        """
        kept: list[Tensor] | None = None
        for batch in images.read(in_order(images, batch_size), presentation):
            said = [tensor.to("cpu", torch.float32) for tensor in self._ask(batch.images)]
            if kept is None:
                if sum(4 * tensor[0].numel() for tensor in said) * len(images) > _MEMORY:
                    return False
                kept = [torch.zeros(len(images), *tensor.shape[1:]) for tensor in said]
            for whole, part in zip(kept, said, strict=True):
                whole[batch.indices] = part.clone()
        self._remembered = kept
        return kept is not None

    def _ask(self, images: Tensor) -> list[Tensor]:
        with torch.inference_mode():
            scores, _ = logits(self._run(images.to(self._dtype)))
            return [scores, *map(attention_map, self._taps.take())]
