"""Turns images into batches: small images of one size in whole batches, others one by one."""

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

from seclcompress import interrupt
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

#: Decoded images of up to this many bytes are moved to the accelerator as a whole and kept there.
_RESIDENT = 4 * 2**30


class Batch(NamedTuple):
    """Images (batch, 3, H, W), normalised; class indices (batch,); indices in the data (batch,)."""

    images: Tensor
    targets: Tensor
    indices: Tensor


@dataclass(frozen=True)
class Presentation:
    """How images are shown to a network.

    Attributes:
        input_size: (3, H, W).
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
                _finish(images, presentation, mine),
                self.labels[indices].to(presentation.device),
                indices,
            )


class Decoder(Protocol):
    """Returns images by index."""

    @property
    def complete(self) -> bool:
        """Whether the images are in memory."""

    def __call__(self, index: int) -> Tensor:
        """Returns an image as uint8, shape (3, H, W); raises DataError if it cannot be read."""


class Files(Images):
    """Images of any size that are augmented one by one.

    Args:
        decode: Returns an image by its index.
        labels: Class indices, shape (count,).
        skip: Whether images that cannot be read are left out of their batches. Otherwise they raise.
        on_skip: Is called with a message for each image that is left out.
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
        """Returns a selection of the images, given their indices, shape (count,)."""
        chosen = _Chosen(self.decode, indices.tolist())
        return Files(chosen, self.labels[indices], skip=self._skip, on_skip=self._on_skip)

    def read(self, order: Sequence[Tensor], presentation: Presentation) -> Iterator[Batch]:
        """Yields batches in a given order; see `Images.read`."""
        workers = presentation.workers
        if self.decode.complete and multiprocessing.get_start_method() != "fork":
            workers = 0  # each worker would receive a copy of all images
        loader = DataLoader(
            _PerImage(self.decode, self.labels, presentation),
            batch_sampler=[indices.tolist() for indices in order],
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=presentation.device.startswith("cuda"),
            worker_init_fn=_let_go_of_signals,
            # A separate generator: by default the loader draws its seed from the global generator.
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
            except RuntimeError as error:  # raised if a worker was killed
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
    """A selection of another decoder's images. It is a class, so that it can be pickled for workers."""

    def __init__(self, decode: Decoder, indices: list[int]) -> None:
        self._decode, self._indices = decode, indices

    @property
    def complete(self) -> bool:
        """Whether the images are in memory."""
        return self._decode.complete

    def __call__(self, index: int) -> Tensor:
        return self._decode(self._indices[index])


class _PerImage(Dataset[Any]):
    """Decodes and augments single images; each image's random numbers seed its transforms."""

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
        except DataError as error:  # between processes, a string is safer than an exception
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
    """Makes a worker ignore what the main process handles (Ctrl-C and the like), and end at SIGTERM.

    A forked worker inherits the main process's handlers, under which SIGTERM would not end it. A closed
    terminal or a scheduler signals the workers as well; they must live until the run is saved.
    """
    del worker
    for number in (signal.SIGINT, *interrupt.ENDING):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interpolation(preprocessing: Preprocessing) -> InterpolationMode:
    return InterpolationMode(preprocessing.interpolation)


def _finish(images: Tensor, presentation: Presentation, rows: Tensor | None) -> Tensor:
    """Resizes, normalises and cuts out: the steps common to images from memory and from files.

    Args:
        images: Shape (batch, 1 or 3, H, W): uint8, or floating-point from 0 to 1.
        presentation: How the images are shown.
        rows: Random numbers of the images, shape (batch, 6); None for no Cutout.

    Returns:
        Shape (batch, 3, H, W), normalised.
    """
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
