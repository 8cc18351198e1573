"""Opens image files as a data set's images, and keeps them in memory where they fit well."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from seclcompress.data.decoding import Unreadable, decode, size_of
from seclcompress.data.finding import ARRAY
from seclcompress.data.from_files import Files
from seclcompress.data.images import Images
from seclcompress.data.in_memory import Decoded
from seclcompress.errors import DataError

#: Images that all have one size, with sides up to this one, are kept in memory as one tensor and
#: processed in whole batches.
_SMALL_SIDE = 64
#: Share of this process's memory that the decoded training images, or test images, may take.
_SHARE_OF_MEMORY = 0.2
_SAMPLED_HEADERS = 200
_CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    Attributes:
        cache: Whether decoded images of various sizes are kept in memory: `auto` (if they fit well),
            `always` or `never`.
        skip: Whether images that cannot be read are left out. Otherwise they raise.
        on_progress: Is called with the number of decoded images and the total. The last call always
            has the total as its number, even if decoding ended with an error.
        unreadable: Gets those that are left out.
    """

    cache: str = "auto"
    skip: bool = False
    on_progress: Callable[[int, int], None] | None = None
    unreadable: Unreadable = field(default_factory=Unreadable)


class FileDecoder:
    """Returns images by index, from memory (`kept`, by index) or decoded from their files.

    Args:
        paths: The files.
        channels: The channels of a decoded image.
    """

    def __init__(self, paths: Sequence[str], channels: int = 3) -> None:
        self.paths, self.channels = list(paths), channels
        self.kept: dict[int, Tensor] = {}

    @property
    def complete(self) -> bool:
        """Whether the images are in memory (except unreadable ones)."""
        return bool(self.kept)

    def __call__(self, index: int) -> Tensor:
        """Returns an image, shape (channels, H, W); raises DataError if it cannot be read."""
        found = self.kept.get(index)
        return decode(self.paths[index], self.channels) if found is None else found


def small_size(samples: Sequence[tuple[str, int]]) -> tuple[int, int] | None:
    """The common width and height of small images; None if the images differ in size or are large.

    The result decides how images are augmented, so it depends on the images alone and not on the
    available memory. Images that cannot be read are ignored. Arrays are never small, as their numbers
    may differ in type.

    Args:
        samples: Paths and class indices.
    """
    paths = [path for path, _ in samples]
    if any(path.lower().endswith(ARRAY) for path in paths):
        return None
    some = sampled_size(samples, _SMALL_SIDE)
    return some if some is not None and len(_sizes(paths)) == 1 else None


def sampled_size(samples: Sequence[tuple[str, int]], at_most: int) -> tuple[int, int] | None:
    """The width and height that all of some 200 to 400 images have.

    Args:
        samples: Paths and class indices.
        at_most: The largest side in pixels.

    Returns:
        None if the images differ in size, or a side is larger.
    """
    paths = [path for path, _ in samples]
    sizes = _sizes(paths[:: max(1, len(paths) // _SAMPLED_HEADERS)])
    if len(sizes) != 1 or max(next(iter(sizes))) > at_most:
        return None
    return next(iter(sizes))


def open_folder(
    samples: Sequence[tuple[str, int]],
    small: tuple[int, int] | None,
    reading: Reading,
    channels: int = 3,
) -> Images:
    """Opens the images of a folder; they are kept in memory if they are small or fit well.

    Args:
        samples: Paths and class indices.
        small: The result of `small_size`: the size of all images, or None.
        reading: How files are read.
        channels: The channels of an image.

    Raises:
        DataError: If an image cannot be read and may not be left out, or if none can be read.
    """
    paths, labels = [path for path, _ in samples], torch.tensor([label for _, label in samples])
    if small is not None:
        return _in_one_tensor(paths, labels, small, reading, channels)
    decoder = FileDecoder(paths, channels)
    files = Files(decoder, labels, skip=reading.skip, on_skip=reading.unreadable.add)
    if reading.cache == "never" or (reading.cache == "auto" and not _fits(paths, channels)):
        return files
    decoder.kept = {
        index: image for index, image in _decode_all(paths, reading, channels) if image is not None
    }
    if not decoder.kept:
        raise DataError(f"None of the {len(paths)} images around {paths[0]} can be read.")
    return files


def _in_one_tensor(
    paths: Sequence[str],
    labels: Tensor,
    small: tuple[int, int],
    reading: Reading,
    channels: int,
) -> Images:
    pixels = torch.zeros(len(paths), channels, small[1], small[0], dtype=torch.uint8)
    readable = torch.zeros(len(paths), dtype=torch.bool)
    for index, image in _decode_all(paths, reading, channels, small):
        if image is not None:
            pixels[index], readable[index] = image, True
    if not readable.any():
        raise DataError(f"None of the {len(paths)} images around {paths[0]} can be read.")
    return Decoded(pixels, labels, None if bool(readable.all()) else readable)


def _sizes(paths: Sequence[str]) -> set[tuple[int, int]]:
    """The widths and heights of images, from their headers; unreadable ones are ignored."""
    return {size for size in map(size_of, paths) if size is not None}


def _fits(paths: Sequence[str], channels: int) -> bool:
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
        bytes_each = 4 * channels if path.lower().endswith(ARRAY) else channels
        sizes += [bytes_each * width * height for width, height in _sizes([path])]
    average = sum(sizes) / max(1, len(sizes))
    return average * len(paths) <= _SHARE_OF_MEMORY * memory


def _decode_all(
    paths: Sequence[str], reading: Reading, channels: int, size: tuple[int, int] | None = None
) -> Iterator[tuple[int, Tensor | None]]:
    """Decodes all images; yields each index with its image, or with None for one that is left out.

    Threads suffice, because PIL releases the interpreter lock while it decodes.
    """

    def one(path: str) -> Tensor | DataError:
        try:
            image = decode(path, channels)
            if size is not None and tuple(image.shape[1:]) != size[::-1]:
                raise DataError(
                    f"An image cannot be read: {path}: it has {image.shape[2]}×{image.shape[1]} "
                    f"pixels, but its header says {size[0]}×{size[1]}."
                )
            return image
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
                    reading.unreadable.add(str(found))
                yield index, None if isinstance(found, DataError) else found
                if index % 1000 == 999:
                    tell(index + 1, len(paths))
    finally:  # also after an unreadable image or Ctrl-C
        tell(len(paths), len(paths))
