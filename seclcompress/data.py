"""Data sets by name, through torchvision and scikit-learn. Nothing is downloaded unless asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)
from torchvision import datasets
from torchvision.transforms import v2

from seclcompress.errors import DataError, UsageError

NAMES = ("digits", "cifar10", "cifar100", "imagefolder:PATH")
DEFAULT_ROOT = Path("~/.cache/seclcompress/data")

#: Mean and standard deviation of the training images, by channel.
_CIFAR = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
#: Images up to this side are cropped after padding, larger ones at a random scale.
_SMALL_SIDE = 64


@dataclass(frozen=True)
class Data:
    """Images to train on, others to test on, and the classes' names.

    Attributes:
        name: As on the command line.
        train: Images (channels, H, W), normalised and augmented, and class indices.
        test: The same without augmentation.
        classes: Names, in the order of the indices.
        input_size: (channels, H, W).
    """

    name: str
    train: Dataset[Any]
    test: Dataset[Any]
    classes: list[str]
    input_size: tuple[int, ...]


def is_folder(name: str) -> bool:
    """Whether a name of data is `imagefolder:PATH`."""
    return name.startswith("imagefolder:")


def usual_input_size(name: str) -> tuple[int, ...] | None:
    """The size that a data set's images have, or None where a folder decides."""
    return None if is_folder(name) else (3, 32, 32)


def load_data(
    name: str, input_size: tuple[int, ...], *, root: Path = DEFAULT_ROOT, download: bool = False
) -> Data:
    """Opens a data set.

    Args:
        name: `digits`, `cifar10`, `cifar100`, or `imagefolder:PATH` with `train/` and `val/` or
            `test/` in it, one folder a class.
        input_size: (channels, H, W) to resize to.
        root: Where torchvision's data sets lie.
        download: Whether a missing one may be fetched.

    Raises:
        UsageError: If the name is unknown.
        DataError: If the data are missing, empty or damaged.
    """
    if len(input_size) != 3 or input_size[0] != 3:
        raise DataError(f"These data are RGB images; the network wants {input_size}.")
    if is_folder(name):
        return _image_folder(name, Path(name.partition(":")[2]).expanduser(), input_size)
    if name == "digits":
        return _digits(input_size)
    if name in _CIFAR:
        return _cifar(name, input_size, root.expanduser(), download)
    raise UsageError(f"Unknown data '{name}'. There are: {', '.join(NAMES)}.")


def _digits(input_size: tuple[int, ...]) -> Data:
    """scikit-learn's 1,797 scans of handwritten digits, 8×8; every fifth of each class to test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images).float().reshape(-1, 1, 8, 8) / 16
    x = F.interpolate(x, size=input_size[1:], mode="bilinear", align_corners=False)
    x = ((x - x.mean()) / x.std()).expand(-1, 3, -1, -1).contiguous()
    y = torch.from_numpy(labels).long()
    train, test = train_test_split(range(len(y)), test_size=0.2, stratify=labels, random_state=0)
    return Data(
        "digits",
        TensorDataset(x[train], y[train]),
        TensorDataset(x[test], y[test]),
        [str(digit) for digit in range(10)],
        input_size,
    )


def _transforms(
    side: tuple[int, ...], mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """For training (crop and flip), and for testing."""
    size = list(side[1:])
    to_tensor = [v2.RGB(), v2.ToImage()]
    normalise = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    if max(size) <= _SMALL_SIDE:
        crop = [v2.Resize(size), v2.RandomCrop(size, padding=max(size) // 8)]
        whole = [v2.Resize(size)]
    else:
        crop = [v2.RandomResizedCrop(size)]
        whole = [v2.Resize([round(n * 256 / 224) for n in size]), v2.CenterCrop(size)]
    train = v2.Compose([*to_tensor, *crop, v2.RandomHorizontalFlip(), *normalise])
    return train, v2.Compose([*to_tensor, *whole, *normalise])


def _cifar(name: str, input_size: tuple[int, ...], root: Path, download: bool) -> Data:
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    train_transform, test_transform = _transforms(input_size, *_CIFAR[name])
    try:
        train = kind(root, train=True, transform=train_transform, download=download)
        test = kind(root, train=False, transform=test_transform, download=download)
    except RuntimeError as error:
        raise DataError(
            f"{name} is not in {root}, or is damaged. Allow the download with --download, or say "
            "where it lies with --data-dir."
        ) from error
    except OSError as error:
        raise DataError(f"{name} cannot be read or downloaded: {error}.") from error
    return Data(name, train, test, list(train.classes), input_size)


def _image_folder(name: str, folder: Path, input_size: tuple[int, ...]) -> Data:
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    tests = [folder / part for part in ("val", "test") if (folder / part).is_dir()]
    if not (folder / "train").is_dir() or not tests:
        raise DataError(f"{folder} needs a folder train/ and one of val/ or test/ in it.")
    train_transform, test_transform = _transforms(input_size, *_IMAGENET)
    try:
        train = datasets.ImageFolder(folder / "train", transform=train_transform)
        test = datasets.ImageFolder(tests[0], transform=test_transform)
    except FileNotFoundError as error:  # no class folders, or an empty one
        raise DataError(f"{folder}: {error}") from error
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise DataError(
            f"{folder}: train/ and {tests[0].name}/ have different classes; only one of them has: "
            f"{', '.join(odd[:5])}."
        )
    return Data(name, train, test, list(train.classes), input_size)


def loader(
    dataset: Dataset[Any], batch_size: int, *, shuffle: bool, workers: int = 0, device: str = "cpu"
) -> DataLoader[Any]:
    """Batches of images and class indices, shuffled by torch's global random numbers.

    Args:
        dataset: One of a `Data`'s two.
        batch_size: Images a batch. A last batch of one image is left out of training, because
            batch normalisation cannot train on it.
        shuffle: True for training.
        workers: Processes that load; 0 for this one. They are started, and seeded, every epoch.
        device: Where the batches go; for a GPU they are pinned.
    """
    count = len(dataset)  # type: ignore[arg-type]
    drop_last = shuffle and count % batch_size == 1 and count > 1
    if isinstance(dataset, TensorDataset):
        sampler = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        batches = BatchSampler(sampler, batch_size, drop_last)
        return DataLoader(dataset, sampler=batches, batch_size=None)
    return DataLoader(
        dataset,
        batch_size,
        shuffle=shuffle,
        drop_last=drop_last,
        num_workers=workers,
        pin_memory=device != "cpu",
    )


def batches(batches_of: DataLoader[Any], name: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterates over a loader, and names the data where an image cannot be read.

    Raises:
        DataError: If an image is damaged.
    """
    try:
        yield from batches_of
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # what PIL raises
        raise DataError(f"{name}: an image cannot be read: {error}.") from error


def check_classes(data: Data, outputs: int, network: str) -> None:
    """Makes sure that a network has one output a class.

    Raises:
        DataError: If it has not.
    """
    if outputs != len(data.classes):
        raise DataError(
            f"{data.name} has {len(data.classes)} classes, but {network} has {outputs} outputs."
        )
