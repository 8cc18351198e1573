"""Folders of image files: finding them, decoding them, keeping them in memory where that is wise."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
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

#: Images up to this side that all have one size lie in memory as one tensor.
_SMALL_SIDE = 64
#: Share of the machine's memory that decoded images may take.
_SHARE_OF_MEMORY = 0.25
_SAMPLED_HEADERS = 200


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    Attributes:
        cache: `auto`, `always` or `never` keep decoded images in memory.
        skip: Whether images that cannot be read are left out, with a warning, or stop the run.
        on_progress: Is told how many of how many images are decoded.
    """

    cache: str = "auto"
    skip: bool = False
    on_progress: Callable[[int, int], None] | None = None


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image as 8-bit RGB; 16-bit greys keep their upper byte, where PIL would clip them."""
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
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        words = str(error) if str(path) in str(error) else f"{path}: {error}"
        raise DataError(f"An image cannot be read: {words}.") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


class FileDecoder:
    """Decodes by index, from files or from what was kept."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)
        self.kept: dict[int, Tensor] = {}

    def __call__(self, index: int) -> Tensor:
        """uint8, shape (3, H, W). Raises DataError."""
        found = self.kept.get(index)
        return decode(self.paths[index]) if found is None else found


def open_folder(samples: Sequence[tuple[str, int]], reading: Reading) -> Images:
    """The images of a folder, in memory where they fit well.

    Args:
        samples: Paths and class indices.
        reading: How files are read.

    Raises:
        DataError: If an image cannot be read and none may be left out.
    """
    paths, labels = [path for path, _ in samples], torch.tensor([label for _, label in samples])
    sizes = _sizes(paths)
    side = max(max(size) for size in sizes)
    average = sum(3 * width * height for width, height in sizes) / len(sizes)
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    )
    fits = average * len(paths) <= _SHARE_OF_MEMORY * memory
    decoder = FileDecoder(paths)
    files = Files(decoder, labels, skip=reading.skip, on_skip=_say_skipped)
    if reading.cache == "never" or (reading.cache == "auto" and not fits):
        return files
    decoder.kept = _decode_all(paths, reading)
    if not decoder.kept:
        raise DataError(f"None of the {len(paths)} images around {paths[0]} can be read.")
    shapes = {tuple(image.shape) for image in decoder.kept.values()}
    if len(shapes) == 1 and side <= _SMALL_SIDE:
        kept = sorted(decoder.kept)
        return Decoded(torch.stack([decoder.kept[index] for index in kept]), labels[kept])
    return files


def _sizes(paths: Sequence[str]) -> list[tuple[int, int]]:
    """Width and height of some of the images, from their headers."""
    sizes = []
    for path in paths[:: max(1, len(paths) // _SAMPLED_HEADERS)]:
        try:
            with Image.open(path) as image:
                sizes.append(image.size)
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
            continue  # decoding it will say so
    return sizes or [(224, 224)]


def _decode_all(paths: Sequence[str], reading: Reading) -> dict[int, Tensor]:
    """All images by index; PIL decodes without Python's lock, so threads help."""

    def one(path: str) -> Tensor | DataError:
        try:
            return decode(path)
        except DataError as error:
            if not reading.skip:
                raise
            return error

    tell = reading.on_progress or (lambda *_: None)
    kept: dict[int, Tensor] = {}
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for index, found in enumerate(pool.map(one, paths)):
            if isinstance(found, DataError):
                _say_skipped(str(found))
            else:
                kept[index] = found
            if index % 1000 == 999 or index + 1 == len(paths):
                tell(index + 1, len(paths))
    return kept


def _say_skipped(words: str) -> None:
    warnings.warn(f"Left out. {words}", SeclcompressWarning, stacklevel=2)


def class_folders(folder: Path, **options: Any) -> datasets.ImageFolder:
    """A folder with one folder a class.

    Raises:
        DataError: If there are no classes, or one is empty.
    """
    try:
        return datasets.ImageFolder(folder, **options)
    except FileNotFoundError as error:  # no class folders, or an empty one
        raise DataError(f"{folder}: {error}") from error
