"""Images of any size, decoded and augmented one by one, possibly by several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as VF

from seclcompress import interrupt
from seclcompress.data.augmentation import draw, image_seed
from seclcompress.data.images import Batch, Images, Presentation, finish, interpolation
from seclcompress.errors import DataError
from seclcompress.preprocessing import Preprocessing


class Decoder(Protocol):
    """Returns images by index."""

    @property
    def complete(self) -> bool:
        """Whether the images are in memory."""

    def __call__(self, index: int) -> Tensor:
        """Returns an image, shape (channels, H, W); raises DataError if it cannot be read."""


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
            except (RuntimeError, OSError, EOFError) as error:
                if not _tells_of_death(error):
                    raise
                first = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
                raise DataError(
                    f"A process that loads images died: {first}. Out of memory? Try fewer --workers."
                ) from error
            for words in unreadable:
                if not self._skip:
                    raise DataError(words)
                self._on_skip(words)
            if not len(indices):
                raise DataError("None of the images of a whole batch can be read.")
            images = images.to(presentation.device, non_blocking=True)
            images = finish(images, presentation, None if rows is None else rows[indices])
            yield Batch(images, labels.to(presentation.device, non_blocking=True), indices)


def _tells_of_death(error: Exception) -> bool:
    """Whether an exception of the loader means that a worker was killed, and not that it raised one.

    The loader notices a death by its signal (a RuntimeError), or earlier, while it fetches a batch: the
    worker's socket is gone or closes.
    """
    words = str(error)
    if words.startswith("Caught "):  # what a worker raised is raised again under these words
        return False
    if isinstance(error, RuntimeError):
        return "DataLoader worker" in words
    return isinstance(error, ConnectionError | FileNotFoundError | EOFError)


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
        how = {"interpolation": interpolation(presentation.preprocessing), "antialias": True}
        if augmentation.crop:
            # Pictures keep their proportions, give or take a third, also in inputs that are no squares.
            wide = size[1] / size[0]
            ratio = (3 / 4 * wide, 4 / 3 * wide)
            steps: list[Any] = [v2.RandomResizedCrop(size, ratio=ratio, **how)]
        else:
            steps = [_Centre(size, presentation.preprocessing)]
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


class _Centre:
    """Resizes a picture so that it covers a little more than the input, and takes its centre.

    A picture that has the input's size already is left as it is, unless a size to resize to is given.
    """

    def __init__(self, size: list[int], preprocessing: Preprocessing) -> None:
        self._size, self._resize = size, preprocessing.resize
        self._interpolation = interpolation(preprocessing)

    def __call__(self, image: Tensor) -> Tensor:
        height, width = self._size
        if self._resize is None and list(image.shape[1:]) == self._size:
            return image
        shorter = max(self._resize or round(min(self._size) * 256 / 224), min(self._size))
        if height == width:
            wanted = [shorter]
        else:
            part = shorter / min(self._size)
            scale = max(part * height / image.shape[1], part * width / image.shape[2])
            wanted = [
                max(side, round(own * scale))
                for side, own in zip(self._size, image.shape[1:], strict=True)
            ]
        image = VF.resize(image, wanted, interpolation=self._interpolation, antialias=True)
        return VF.center_crop(image, self._size)


def _collate(items: list[Any]) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    read = [item for item in items if not isinstance(item, str)]
    images = [image for image, _, _ in read]
    if len({image.dtype for image in images}) > 1:  # arrays of floating-point values among others
        images = [i.float() / 255 if i.dtype == torch.uint8 else i for i in images]
    return (
        torch.stack(images) if images else torch.empty(0),
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
