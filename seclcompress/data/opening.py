"""Opens data sets by their names on the command line."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError

import torch
from torchvision.datasets import imagenet

from seclcompress.data.dataset import Data
from seclcompress.data.decoding import MODES
from seclcompress.data.finding import ARRAY, find_images
from seclcompress.data.folders import Reading, open_folder, sampled_size, small_size
from seclcompress.data.held_out import hold_out
from seclcompress.data.images import Images
from seclcompress.data.layout import Parts, find_parts, fingerprint, has_test_folder, pair_of
from seclcompress.data.layout import hold_out as hold_out_files
from seclcompress.data.published import PUBLISHED, open_digits, open_published
from seclcompress.errors import DataError, UsageError
from seclcompress.files import missing_folder
from seclcompress.preprocessing import IMAGENET, Preprocessing

NAMES = (
    "digits",
    "cifar10",
    "cifar100",
    "mnist",
    "fashionmnist",
    "imagefolder:PATH",
    "imagenet:PATH",
)
DEFAULT_ROOT = Path("~/.cache/seclcompress/data")
#: Pictures of one size become the input of a network that names none, up to this many pixels a side.
_LARGEST_SIDE = 256


def usual_input_size(name: str, validation: float | None = None) -> tuple[int, ...] | None:
    """The input size for a data set whose images have one size, which may be small, by its name.

    Args:
        name: One of `NAMES`.
        validation: As in `load_data`.

    Returns:
        (3, H, W); None for images of many sizes, for large ones and for an unknown name.

    Raises:
        DataError: If the images are in a folder that cannot be read.
    """
    if name == "digits":
        return (3, 32, 32)
    if name in PUBLISHED:
        return (3, PUBLISHED[name].side, PUBLISHED[name].side)
    parts = _parts(name, validation)
    size = None if parts is None else sampled_size(parts.train, _LARGEST_SIDE)
    return None if size is None else (3, size[1], size[0])


def load_data(
    name: str,
    input_size: tuple[int, ...],
    *,
    preprocessing: Preprocessing | None = None,
    root: Path = DEFAULT_ROOT,
    download: bool = False,
    train_images: int | None = None,
    validation: float | None = None,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> Data:
    """Opens a data set.

    Args:
        name: One of `NAMES`. What the folder of `imagefolder:PATH` contains is said in
            `layout.find_parts`; that of `imagenet:PATH` is one that torchvision's ImageNet reads.
        input_size: The size (channels, H, W) of the network's input. Images are resized to it, and
            become grey for one channel; four are red, green, blue and alpha.
        preprocessing: The preprocessing that the network was trained with; by default the data set's.
        root: The folder of torchvision's data sets.
        download: Whether a missing data set may be downloaded.
        train_images: Number of training images, the same share of each class; None for all.
        validation: The share of each class of the training images that is held out as validation images,
            always the same ones; in a folder without test images, as those. None to hold out nothing.
        reading: How image files are read.

    Raises:
        UsageError: If the name is unknown.
        DataError: If the data are missing, empty or damaged, or do not have so many channels.
    """
    if len(input_size) != 3:
        raise DataError(
            f"{name} has pictures of (channels, height, width); the network wants {input_size}."
        )
    path = name.partition(":")[2]
    parts = _parts(name, validation)
    if parts is not None:
        data = _folders(name, parts, Path(path).expanduser(), input_size, reading)
    elif name == "digits" or name in PUBLISHED:
        if input_size[0] not in (1, 3):
            raise DataError(
                f"{name} has grey or coloured pictures; the network takes {input_size[0]} channels."
            )
        data = (
            open_digits(input_size)
            if name == "digits"
            else open_published(name, input_size, root.expanduser(), download)
        )
        data = data if validation is None else hold_out(data, validation)
    else:
        hint = f"Did you mean imagefolder:{name}? " if Path(name).expanduser().is_dir() else ""
        raise UsageError(f"Unknown data '{name}'. {hint}There are: {', '.join(NAMES)}.")
    wanted = (preprocessing or data.preprocessing).for_channels(input_size[0])
    data = replace(data, preprocessing=wanted, unreadable=reading.unreadable)
    if train_images is not None:
        data = replace(data, open_train=functools.partial(_share_of, data, train_images))
    return data


def has_test_images(name: str) -> bool:
    """Whether a data set has test images of its own, so that `validation` holds out other ones.

    Args:
        name: One of `NAMES`.

    Raises:
        DataError: If it is a folder that cannot be read.
    """
    kind, _, path = name.partition(":")
    return not (kind == "imagefolder" and path) or has_test_folder(Path(path).expanduser())


def _share_of(data: Data, count: int) -> Images:
    """Selects `count` training images, the same share of each class, always the same ones."""
    images = data.open_train()  # not `data.train`, which would keep all images in memory
    if count >= len(images):
        return images
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator)
    place = torch.empty(len(images), dtype=torch.float64)
    # Within its class, each image gets a place between 0 and 1. The `count` images with the lowest
    # places are then the same share of each class.
    for label in images.labels.unique():
        of_class = order[images.labels[order] == label]
        place[of_class] = (torch.arange(len(of_class)).double() + 0.5) / len(of_class)
    chosen = place.argsort(stable=True)[:count].sort().values
    return images.subset(chosen)


def _parts(name: str, validation: float | None) -> Parts | None:
    """Finds the images of a data set that lies in a folder; None for any other name."""
    kind, _, path = name.partition(":")
    folder = Path(path).expanduser()
    if kind == "imagefolder" and path:
        return find_parts(folder, validation)
    if not (kind == "imagenet" and path):
        return None
    parts = _imagenet(folder)
    return parts if validation is None else hold_out_files(parts, folder / "train", validation)


def _imagenet(folder: Path) -> Parts:
    """Reads a folder for torchvision's ImageNet: train/ and val/ by WordNet id, and meta.bin."""
    missing = missing_folder(folder)
    if missing is not None:
        raise DataError(missing)
    for part, there in (("train", Path.is_dir), ("val", Path.is_dir), ("meta.bin", Path.is_file)):
        if not there(folder / part):
            raise DataError(
                f"{folder} lacks {part}. torchvision.datasets.ImageNet makes it from ILSVRC2012's "
                "archives; a folder without meta.bin can be read as imagefolder:PATH."
            )
    try:
        words, _ = imagenet.load_meta_file(folder)
        parts = pair_of(find_images(folder / "train"), find_images(folder / "val"))
        classes = [", ".join(words[wnid]) for wnid in parts.classes]
    except (RuntimeError, OSError, ValueError, LookupError, TypeError, UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{folder} is no ImageNet as torchvision wants it: {reason}") from error
    return replace(parts, classes=classes)


def _folders(
    name: str, parts: Parts, folder: Path, input_size: tuple[int, ...], reading: Reading
) -> Data:
    """Makes a data set of files; images count as small only if both parts' are, of one size."""
    channels = input_size[0]
    if channels not in MODES and not all(
        path.lower().endswith(ARRAY) for path, _ in (*parts.train, *parts.test)
    ):
        raise DataError(
            f"{name} has image files, of 1, 3 or 4 channels, but the network takes {channels}. Save "
            f"each picture as an array of the shape (H, W, {channels}) in a file {ARRAY}."
        )

    @functools.cache
    def small() -> tuple[int, int] | None:
        size = small_size(parts.train)
        return size if size is not None and size == small_size(parts.test) else None

    return Data(
        name,
        lambda: open_folder(parts.train, small(), reading, channels),
        lambda: open_folder(parts.test, small(), reading, channels),
        parts.classes,
        input_size,
        IMAGENET,
        knows_statistics=False,
        notes=parts.notes,
        files=fingerprint(folder, parts),
        open_validation=(lambda: open_folder(parts.validation, small(), reading, channels))
        if parts.validation
        else None,
    )
