"""How images become batches: small ones of one size in whole batches, others one by one."""

from __future__ import annotations

import multiprocessing
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as VF

from seclcompress.data.augmentation import (
    NOTHING_RANDOM,
    Augmentation,
    crop_and_flip,
    cut_out,
    draw,
    image_seed,
    rand_augment,
)
from seclcompress.errors import DataError
from seclcompress.preprocessing import Preprocessing

#: Decoded images up to so many bytes are kept on an accelerator whole.
_RESIDENT = 4 * 2**30


class Batch(NamedTuple):
    """Images (batch, 3, H, W), normalised; class indices (batch,); indices in the data (batch,)."""

    images: Tensor
    targets: Tensor
    indices: Tensor


@dataclass(frozen=True)
class Presentation:
    """How images are to be seen.

    Attributes:
        input_size: (3, H, W).
        preprocessing: Size, mean and standard deviation.
        augmentation: What is random; nothing, by default.
        seed: Of the random numbers.
        epoch: Of the random numbers.
        device: Where the batches go.
        workers: Processes that load files; 0 for this one.
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

    @abstractmethod
    def subset(self, indices: Tensor) -> Images:
        """Some of the images, by their indices, shape (count,)."""

    @abstractmethod
    def read(self, order: Sequence[Tensor], presentation: Presentation) -> Iterator[Batch]:
        """Batches of these indices, in this order.

        Args:
            order: The indices of each batch.
            presentation: How the images are to be seen.

        Raises:
            DataError: If an image cannot be read.
        """


class Decoded(Images):
    """Images of one size in memory.

    Args:
        pixels: Shape (count, 1 or 3, H, W): uint8, or floating-point from 0 to 1.
        labels: Class indices, shape (count,).
        readable: Shape (count,): False for images that could not be read; they are left out of
            their batches. By default all can.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, readable: Tensor | None = None) -> None:
        self.pixels, self.labels = pixels, labels
        self.readable = readable

    def subset(self, indices: Tensor) -> Images:
        """Some of the images."""
        readable = None if self.readable is None else self.readable[indices]
        return Decoded(self.pixels[indices], self.labels[indices], readable)

    def read(self, order: Sequence[Tensor], presentation: Presentation) -> Iterator[Batch]:
        """Batches of these indices, in this order."""
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
                _finish(images, presentation, mine),
                self.labels[indices].to(presentation.device),
                indices,
            )


class Decoder(Protocol):
    """Gives an image by its index."""

    @property
    def complete(self) -> bool:
        """Whether images lie in memory."""

    def __call__(self, index: int) -> Tensor:
        """uint8, shape (3, H, W). Raises DataError."""


class Files(Images):
    """Images of any size that are augmented one by one.

    Args:
        decode: Gives an image by its index.
        labels: Class indices, shape (count,).
        skip: Whether images that cannot be read are left out of their batches.
        on_skip: Is told which one.
    """

    def __init__(
        self,
        decode: Decoder,
        labels: Tensor,
        *,
        skip: bool = False,
        on_skip: Callable[[str], None] = print,
    ) -> None:
        self.decode, self.labels = decode, labels
        self._skip, self._on_skip = skip, on_skip

    def subset(self, indices: Tensor) -> Images:
        """Some of the images."""
        chosen = _Chosen(self.decode, indices.tolist())
        return Files(chosen, self.labels[indices], skip=self._skip, on_skip=self._on_skip)

    def read(self, order: Sequence[Tensor], presentation: Presentation) -> Iterator[Batch]:
        """Batches of these indices, in this order."""
        workers = presentation.workers
        if self.decode.complete and multiprocessing.get_start_method() != "fork":
            workers = 0  # each would be sent a copy of all images
        loader = DataLoader(
            _PerImage(self.decode, self.labels, presentation),
            batch_sampler=[indices.tolist() for indices in order],
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=presentation.device.startswith("cuda"),
            worker_init_fn=_let_go_of_signals,
            # Its own, so that starting to read draws nothing from the global random numbers.
            generator=torch.Generator(),
        )
        rows = (
            draw(len(self), presentation.seed, presentation.epoch)
            if presentation.augmentation.cutout
            else None
        )
        batches = iter(loader)
        while True:
            try:
                images, labels, indices, unreadable = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:  # a worker that was killed
                if "DataLoader worker" not in str(error):
                    raise
                raise DataError(
                    f"A process that loads images died: {str(error).splitlines()[0]} Out of memory? "
                    "Try fewer --workers."
                ) from error
            for words in unreadable:
                if not self._skip:
                    raise DataError(words)
                self._on_skip(words)
            if not len(indices):
                raise DataError("None of the images of a whole batch can be read.")
            images = images.to(presentation.device, non_blocking=True)
            images = _finish(images, presentation, None if rows is None else rows[indices])
            yield Batch(images, labels.to(presentation.device, non_blocking=True), indices)


class _Chosen:
    """Decodes some of the images that another one decodes; a class, so that workers can have it."""

    def __init__(self, decode: Decoder, indices: list[int]) -> None:
        self._decode, self._indices = decode, indices

    @property
    def complete(self) -> bool:
        """Whether images lie in memory."""
        return self._decode.complete

    def __call__(self, index: int) -> Tensor:
        return self._decode(self._indices[index])


class _PerImage(Dataset[Any]):
    """Decodes and augments one image; what is random is seeded by the image's own numbers."""

    def __init__(self, decode: Decoder, labels: Tensor, presentation: Presentation) -> None:
        self._decode, self._labels = decode, labels
        augmentation = presentation.augmentation
        self._rows = (
            draw(len(labels), presentation.seed, presentation.epoch) if augmentation else None
        )
        size = list(presentation.input_size[1:])
        how = {"interpolation": _interpolation(presentation.preprocessing), "antialias": True}
        if augmentation.crop:
            steps: list[Any] = [v2.RandomResizedCrop(size, **how)]
        else:
            shorter = presentation.preprocessing.resize or round(min(size) * 256 / 224)
            steps = [v2.Resize(max(shorter, *size), **how), v2.CenterCrop(size)]
        if augmentation.flip:
            steps.append(v2.RandomHorizontalFlip())
        if augmentation.randaugment:
            steps.append(v2.RandAugment(num_ops=2, magnitude=augmentation.randaugment))
        self._transform = v2.Compose(steps)

    def __getitem__(self, index: int) -> Any:
        try:
            image = self._decode(index)
        except DataError as error:  # the words travel better than the error between processes
            return str(error)
        with torch.random.fork_rng(devices=[]):
            if self._rows is not None:
                torch.default_generator.manual_seed(image_seed(self._rows[index]))
            return self._transform(image), self._labels[index], index


def _collate(items: list[Any]) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    read = [item for item in items if not isinstance(item, str)]
    return (
        torch.stack([image for image, _, _ in read]) if read else torch.empty(0),
        torch.stack([label for _, label, _ in read]) if read else torch.empty(0),
        torch.tensor([index for _, _, index in read], dtype=torch.long),
        [item for item in items if isinstance(item, str)],
    )


def _let_go_of_signals(worker: int) -> None:
    """Ctrl-C is the main process's affair; SIGTERM ends a worker, whatever it means to the main one."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interpolation(preprocessing: Preprocessing) -> InterpolationMode:
    return InterpolationMode(preprocessing.interpolation)


def _finish(images: Tensor, presentation: Presentation, rows: Tensor | None) -> Tensor:
    """Resizes, normalises and cuts out: what is the same for images from memory and from files."""
    size = list(presentation.input_size[1:])
    if list(images.shape[2:]) != size:
        images = VF.resize(
            images, size, interpolation=_interpolation(presentation.preprocessing), antialias=True
        )
    if images.dtype == torch.uint8:
        images = images.float().div_(255)
    mean, std = (
        torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None]
        for values in (presentation.preprocessing.mean, presentation.preprocessing.std)
    )
    images = (images - mean) / std  # one grey channel becomes three
    if rows is not None and presentation.augmentation.cutout:
        images = cut_out(images, rows, presentation.augmentation.cutout)
    return images
