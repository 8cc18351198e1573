"""Opens data sets by their names on the command line: one function for each kind of data."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import datasets

from seclcompress.data.folders import Reading, class_folders, open_folder, small_size
from seclcompress.data.images import Decoded, Images
from seclcompress.errors import DataError, UsageError
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


@dataclass(frozen=True)
class _Published:
    """One of torchvision's small data sets: its class, and the statistics of its training images."""

    open: Callable[..., Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    side: int
    flip: bool = True


_PUBLISHED = {
    "cifar10": _Published(
        datasets.CIFAR10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), side=32
    ),
    "cifar100": _Published(
        datasets.CIFAR100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), side=32
    ),
    "mnist": _Published(datasets.MNIST, (0.1307,) * 3, (0.3081,) * 3, side=28, flip=False),
    "fashionmnist": _Published(datasets.FashionMNIST, (0.2860,) * 3, (0.3530,) * 3, side=28),
}


@dataclass(frozen=True)
class Data:
    """A data set: training images, test images and the names of the classes.

    Attributes:
        name: The name as on the command line.
        open_train: Opens the training images.
        open_test: Opens the test images.
        classes: The names of the classes, in the order of their indices.
        input_size: The network's input size (channels, H, W).
        preprocessing: Size, mean and standard deviation.
        crop: Whether random crops suit these images.
        flip: Whether mirror images suit these images.
    """

    name: str
    open_train: Callable[[], Images]
    open_test: Callable[[], Images]
    classes: list[str]
    input_size: tuple[int, ...]
    preprocessing: Preprocessing
    crop: bool = True
    flip: bool = True

    @cached_property
    def train(self) -> Images:
        """The training images; opened, and possibly decoded, at the first access."""
        return self.open_train()

    @cached_property
    def test(self) -> Images:
        """The test images; opened, and possibly decoded, at the first access."""
        return self.open_test()


def usual_input_size(name: str) -> tuple[int, ...] | None:
    """The input size for a data set of known image size; None for any other name."""
    if name == "digits":
        return (3, 32, 32)
    return (3, _PUBLISHED[name].side, _PUBLISHED[name].side) if name in _PUBLISHED else None


def load_data(
    name: str,
    input_size: tuple[int, ...],
    *,
    preprocessing: Preprocessing | None = None,
    root: Path = DEFAULT_ROOT,
    download: bool = False,
    train_images: int | None = None,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> Data:
    """Opens a data set.

    Args:
        name: One of `NAMES`. The folder of `imagefolder:PATH` contains `train/` and `val/` or `test/`,
            each with one folder per class; that of `imagenet:PATH` is one that torchvision's ImageNet
            reads.
        input_size: The size (3, H, W) that images are resized to.
        preprocessing: The preprocessing that the network was trained with; by default the data set's.
        root: The folder of torchvision's data sets.
        download: Whether a missing data set may be downloaded.
        train_images: Number of training images, the same share of each class; None for all.
        reading: How image files are read.

    Raises:
        UsageError: If the name is unknown.
        DataError: If the data are missing, empty or damaged.
    """
    if len(input_size) != 3 or input_size[0] != 3:
        raise DataError(f"These data are RGB images; the network wants {input_size}.")
    kind, _, path = name.partition(":")
    folder = Path(path).expanduser()
    if kind == "imagefolder" and path:
        data = _image_folder(name, folder, input_size, reading)
    elif kind == "imagenet" and path:
        data = _imagenet(name, folder, input_size, reading)
    elif name == "digits":
        data = _digits(input_size)
    elif name in _PUBLISHED:
        data = _published(name, input_size, root.expanduser(), download)
    else:
        hint = f"Did you mean imagefolder:{name}? " if Path(name).expanduser().is_dir() else ""
        raise UsageError(f"Unknown data '{name}'. {hint}There are: {', '.join(NAMES)}.")
    if preprocessing is not None:
        data = replace(data, preprocessing=preprocessing)
    if train_images is not None:
        data = replace(data, open_train=functools.partial(_share_of, data, train_images))
    return data


def check_labels(data: Data) -> None:
    """Checks that there are images and that every label is the index of a class.

    Raises:
        DataError: If not.
    """
    for part, images in (("training", data.train), ("test", data.test)):
        if not len(images):
            raise DataError(f"{data.name} has no {part} images.")
        low, high = int(images.labels.min()), int(images.labels.max())
        if low < 0 or high >= len(data.classes):
            raise DataError(
                f"{data.name} has {part} images with labels from {low} to {high}, but "
                f"{len(data.classes)} classes."
            )


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


def _digits(input_size: tuple[int, ...]) -> Data:
    """scikit-learn's 1,797 scans of handwritten digits, 8×8; a fifth of each class for the test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(scans).float().reshape(-1, 1, 8, 8) / 16
    x = F.interpolate(x, size=input_size[1:], mode="bilinear", align_corners=False)
    y = torch.from_numpy(labels).long()
    train, test = train_test_split(range(len(y)), test_size=0.2, stratify=labels, random_state=0)
    statistics = Preprocessing(mean=(float(x.mean()),) * 3, std=(float(x.std()),) * 3)
    return Data(
        "digits",
        lambda: Decoded(x[train], y[train]),
        lambda: Decoded(x[test], y[test]),
        [str(digit) for digit in range(10)],
        input_size,
        statistics,
        crop=False,
        flip=False,
    )


def _published(name: str, input_size: tuple[int, ...], root: Path, download: bool) -> Data:
    kind = _PUBLISHED[name]
    try:
        train = kind.open(root, train=True, download=download)
        test = kind.open(root, train=False, download=download)
    except RuntimeError as error:
        raise DataError(
            f"{name} is not in {root}, or is damaged. Allow the download with --download, or say "
            "where it lies with --data-dir."
        ) from error
    except OSError as error:
        raise DataError(f"{name} cannot be read or downloaded: {error}.") from error
    return Data(
        name,
        lambda: _in_memory(train),
        lambda: _in_memory(test),
        list(train.classes),
        input_size,
        Preprocessing(mean=kind.mean, std=kind.std),
        flip=kind.flip,
    )


def _in_memory(dataset: Any) -> Decoded:
    """The images that torchvision's small data sets hold: uint8, (n, H, W) or (n, H, W, 3)."""
    pixels: Tensor = torch.as_tensor(dataset.data)
    pixels = pixels.unsqueeze(1) if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2)
    return Decoded(pixels.contiguous(), torch.as_tensor(dataset.targets))


def _image_folder(name: str, folder: Path, input_size: tuple[int, ...], reading: Reading) -> Data:
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    tests = [folder / part for part in ("val", "test") if (folder / part).is_dir()]
    if not (folder / "train").is_dir() or not tests:
        raise DataError(f"{folder} needs a folder train/ and one of val/ or test/ in it.")
    train, test = class_folders(folder / "train"), class_folders(tests[0])
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise DataError(
            f"{folder}: train/ and {tests[0].name}/ have different classes; only one of them has: "
            f"{', '.join(odd[:5])}."
        )
    return _folders(name, train, test, list(train.classes), input_size, reading)


def _imagenet(name: str, folder: Path, input_size: tuple[int, ...], reading: Reading) -> Data:
    """Opens a folder for torchvision's ImageNet: train/ and val/ by WordNet id, and meta.bin."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    for part in ("train", "val", "meta.bin"):
        if not (folder / part).exists():
            raise DataError(
                f"{folder} lacks {part}. torchvision.datasets.ImageNet makes it from ILSVRC2012's "
                "archives; a folder without meta.bin can be read as imagefolder:PATH."
            )
    try:
        train = datasets.ImageNet(folder, split="train")
        test = datasets.ImageNet(folder, split="val")
    except (RuntimeError, OSError, ValueError, KeyError, TypeError, UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{folder} is no ImageNet as torchvision wants it: {reason}") from error
    if train.wnids != test.wnids:
        odd = sorted(set(train.wnids) ^ set(test.wnids))
        raise DataError(
            f"{folder}: train/ and val/ have different classes; only one of them has: "
            f"{', '.join(odd[:5])}."
        )
    classes = [", ".join(words) for words in train.classes]
    return _folders(name, train, test, classes, input_size, reading)


def _folders(
    name: str,
    train: datasets.ImageFolder,
    test: datasets.ImageFolder,
    classes: list[str],
    input_size: tuple[int, ...],
    reading: Reading,
) -> Data:
    """Makes a data set of two folders; images count as small only if both folders' are, of one size."""

    @functools.cache
    def small() -> tuple[int, int] | None:
        size = small_size(train.samples)
        return size if size is not None and size == small_size(test.samples) else None

    return Data(
        name,
        lambda: open_folder(train.samples, small(), reading),
        lambda: open_folder(test.samples, small(), reading),
        classes,
        input_size,
        IMAGENET,
    )
