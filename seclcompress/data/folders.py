"""Folders of image files: finds and decodes them, and keeps them in memory where they fit well."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision import datasets

from seclcompress.data.images import Decoded, Files, Images
from seclcompress.errors import DataError, SeclcompressWarning

#: Images that all have one size, with sides up to this one, are kept in memory as one tensor and
#: processed in whole batches.
_SMALL_SIDE = 64
#: Share of this process's memory that the decoded training images, or test images, may take.
_SHARE_OF_MEMORY = 0.2
_SAMPLED_HEADERS = 200
_CGROUP = Path("/sys/fs/cgroup/memory.max")
#: The exceptions that PIL raises for files that are damaged, are not images, or are far too large.
_UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    Attributes:
        cache: Whether decoded images of various sizes are kept in memory: `auto` (if they fit well),
            `always` or `never`.
        skip: Whether images that cannot be read are left out, with a warning. Otherwise they raise.
        on_progress: Is called with the number of decoded images and the total. The last call always
            has the total as its number, even if decoding ended with an error.
    """

    cache: str = "auto"
    skip: bool = False
    on_progress: Callable[[int, int], None] | None = None


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts any image to 8-bit RGB. 16-bit greys keep their upper byte; PIL would clip them."""
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.int64)
        image = Image.fromarray((np.clip(grey, 0, 65535) >> 8).astype(np.uint8))
    return image.convert("RGB")


def decode(path: str) -> Tensor:
    """Reads one image file.

    Returns:
        uint8, shape (3, H, W).

    Raises:
        DataError: If it cannot be read.
    """
    try:
        with Image.open(path) as image:
            pixels = np.array(to_rgb(image))
    except _UNREADABLE as error:
        words = str(error) if str(path) in str(error) else f"{path}: {error}"
        raise DataError(f"An image cannot be read: {words}.") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


class FileDecoder:
    """Returns images by index, from memory (`kept`, by index) or decoded from their files."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)
        self.kept: dict[int, Tensor] = {}

    @property
    def complete(self) -> bool:
        """Whether the images are in memory (except unreadable ones)."""
        return bool(self.kept)

    def __call__(self, index: int) -> Tensor:
        """Returns an image as uint8, shape (3, H, W); raises DataError if it cannot be read."""
        found = self.kept.get(index)
        return decode(self.paths[index]) if found is None else found


def small_size(samples: Sequence[tuple[str, int]]) -> tuple[int, int] | None:
    """The common width and height of small images; None if the images differ in size or are large.

    The result decides how images are augmented, so it depends on the images alone and not on the
    available memory.

    Args:
        samples: Paths and class indices.
    """
    paths = [path for path, _ in samples]
    some = _sizes(paths[:: max(1, len(paths) // _SAMPLED_HEADERS)])
    if len(some) != 1 or max(next(iter(some))) > _SMALL_SIDE or len(_sizes(paths)) != 1:
        return None
    return next(iter(some))


def open_folder(
    samples: Sequence[tuple[str, int]], small: tuple[int, int] | None, reading: Reading
) -> Images:
    """Opens the images of a folder; they are kept in memory if they are small or fit well.

    Args:
        samples: Paths and class indices.
        small: The result of `small_size`: the size of all images, or None.
        reading: How files are read.

    Raises:
        DataError: If an image cannot be read and may not be left out, or if none can be read.
    """
    paths, labels = [path for path, _ in samples], torch.tensor([label for _, label in samples])
    if small is not None:
        return _in_one_tensor(paths, labels, small, reading)
    decoder = FileDecoder(paths)
    files = Files(decoder, labels, skip=reading.skip, on_skip=_say_skipped)
    if reading.cache == "never" or (reading.cache == "auto" and not _fits(paths)):
        return files
    decoder.kept = {
        index: image for index, image in _decode_all(paths, reading) if image is not None
    }
    if not decoder.kept:
        raise DataError(f"None of the {len(paths)} images around {paths[0]} can be read.")
    return files


def _in_one_tensor(
    paths: Sequence[str], labels: Tensor, small: tuple[int, int], reading: Reading
) -> Images:
    pixels = torch.zeros(len(paths), 3, small[1], small[0], dtype=torch.uint8)
    readable = torch.zeros(len(paths), dtype=torch.bool)
    for index, image in _decode_all(paths, reading):
        if image is not None:
            pixels[index], readable[index] = image, True
    if not readable.any():
        raise DataError(f"None of the {len(paths)} images around {paths[0]} can be read.")
    return Decoded(pixels, labels, None if bool(readable.all()) else readable)


def _sizes(paths: Sequence[str]) -> set[tuple[int, int]]:
    """The widths and heights of images, from their headers; unreadable ones are ignored."""
    sizes = set()
    for path in paths:
        try:
            with Image.open(path) as image:
                sizes.add(image.size)
        except _UNREADABLE:
            continue  # decoding will report this image
    return sizes


def _fits(paths: Sequence[str]) -> bool:
    """Whether decoded images take at most a fifth of this process's memory.

    The memory is that of the machine or of the control group, divided by the processes on the machine.
    The size of the images is estimated from at most about 400 headers.
    """
    if not hasattr(os, "sysconf"):
        return False
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if _CGROUP.is_file() and (limit := _CGROUP.read_text().strip()).isdigit():
        memory = min(memory, int(limit))
    memory //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    sizes = []
    for path in paths[:: max(1, len(paths) // _SAMPLED_HEADERS)]:
        sizes += [3 * width * height for width, height in _sizes([path])]
    average = sum(sizes) / max(1, len(sizes))
    return average * len(paths) <= _SHARE_OF_MEMORY * memory


def _decode_all(paths: Sequence[str], reading: Reading) -> Iterator[tuple[int, Tensor | None]]:
    """Decodes all images; yields each index with its image, or with None for one that is left out.

    Threads suffice, because PIL releases the interpreter lock while it decodes.
    """

    def one(path: str) -> Tensor | DataError:
        try:
            return decode(path)
        except DataError as error:
            if not reading.skip:
                raise
            return error

    tell = reading.on_progress or (lambda *_: None)

    tell(0, len(paths))
    try:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for index, found in enumerate(pool.map(one, paths)):
                if isinstance(found, DataError):
                    _say_skipped(str(found))
                yield index, None if isinstance(found, DataError) else found
                if index % 1000 == 999:
                    tell(index + 1, len(paths))
    finally:  # also after an unreadable image or Ctrl-C
        tell(len(paths), len(paths))


def _say_skipped(words: str) -> None:
    warnings.warn(f"Left out. {words}", SeclcompressWarning, stacklevel=2)


def class_folders(folder: Path, **options: Any) -> datasets.ImageFolder:
    """Opens a folder that contains one folder per class.

    Args:
        folder: The folder.
        options: Passed on to torchvision's ImageFolder.

    Raises:
        DataError: If there are no class folders, or one is empty.
    """
    try:
        return datasets.ImageFolder(folder, **options)
    except FileNotFoundError as error:  # no class folders, or an empty one
        raise DataError(f"{folder}: {error}") from error
