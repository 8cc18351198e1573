"""The teacher's outputs: class scores and attention maps, computed for each batch or once for a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seclcompress.data import Batch, Data, Images, Presentation
from seclcompress.errors import TrainingError
from seclcompress.losses import attention_map
from seclcompress.taps import Taps
from seclcompress.trace import floating_dtype
from seclcompress.train.evaluation import Evaluation, in_order
from seclcompress.train.outputs import OutputReader
from seclcompress.train.view import View

#: Largest size in bytes of the outputs that are kept in memory.
_MEMORY = 2**30
#: Points of accuracy by which a teacher must be better than chance.
_POINTS = 3.0


@dataclass(frozen=True)
class Lesson:
    """The teacher's outputs for a batch.

    Attributes:
        scores: Class scores, shape (batch, classes).
        maps: Attention maps, each of shape (batch, positions).
    """

    scores: Tensor
    maps: list[Tensor]


class Teacher:
    """A trained network, always run in eval mode and in torch's inference mode.

    Args:
        network: The network on the device where it runs. Its parameters are frozen here.
        taps: Names of the modules whose attention is compared.
        read: Picks the class scores out of the network's outputs.
        view: How it sees the student's images; None for as they are.
    """

    def __init__(
        self,
        network: nn.Module,
        taps: tuple[str, ...],
        read: OutputReader,
        view: View | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.read = read
        if view is not None:
            view.attach(self.network)
        self._run: nn.Module = self.network
        self._taps = Taps(self.network, taps)
        self._dtype = floating_dtype(network)
        # The taps stay: a compiled network only runs hooks that were there when it was compiled.
        self._taps.__enter__()
        self._remembered: list[Tensor] | None = None

    @property
    def remembers(self) -> bool:
        """Whether its outputs for all training images are kept."""
        return self._remembered is not None

    def compile(self) -> None:
        """Compiles the network with torch.compile."""
        self._run = torch.compile(self.network)  # type: ignore[assignment]

    def teach(self, batch: Batch) -> Lesson:
        """The teacher's outputs for a batch, as tensors that autograd can save for a backward pass."""
        if self._remembered is not None:
            device = batch.images.device
            scores, *maps = (kept[batch.indices].to(device) for kept in self._remembered)
        else:
            # Autograd cannot save tensors made in inference mode, but it can save their copies.
            scores, *maps = (tensor.clone() for tensor in self._ask(batch.images))
        return Lesson(scores, maps)

    def remember(self, images: Images, presentation: Presentation, batch_size: int) -> bool:
        """Computes and keeps the outputs for all images, so that no epoch needs to run the teacher.

        Args:
            images: The training images.
            presentation: How the images are shown; without augmentation.
            batch_size: Images per batch.

        Returns:
            Whether the outputs are kept. They are not if they would take more than 1 GiB.
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
            scores, _ = self.read(self._run(images.to(self._dtype)))
            return [scores, *map(attention_map, self._taps.take())]


def check_teacher(found: Evaluation, data: Data) -> None:
    """Checks that a teacher is better than chance.

    Better means by three points, in data of many classes by chance itself, and by twice the standard
    error of so many test images.

    Args:
        found: The teacher's figures on the test images.
        data: The data set.

    Raises:
        TrainingError: If it is not.
    """
    chance = 100 / len(data.classes)
    error = (chance * (100 - chance) / found.images) ** 0.5
    if found.accuracy > chance + max(min(_POINTS, chance), 2 * error):
        return
    raise TrainingError(
        f"The teacher has {found.accuracy:.2f} % of the {found.images:,} test images of {data.name} "
        f"right; chance among {len(data.classes)} classes is {chance:.2f} %. It has nothing to teach: "
        "its weights are missing (--teacher-weights), or it expects other classes, pixel values "
        "(--mean, --std, --preprocessing) or sizes (--teacher-input-size). --untrained-teacher goes on "
        "all the same."
    )
