"""Small data sets that torchvision and scikit-learn know by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import datasets

from seclcompress import extras
from seclcompress.data.dataset import Data
from seclcompress.data.in_memory import Decoded
from seclcompress.errors import DataError
from seclcompress.preprocessing import Preprocessing


@dataclass(frozen=True)
class _Published:
    """One of torchvision's small data sets: its class, and the statistics of its training images."""

    open: Callable[..., Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    side: int
    flip: bool = True


PUBLISHED = {
    "cifar10": _Published(
        datasets.CIFAR10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), side=32
    ),
    "cifar100": _Published(
        datasets.CIFAR100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), side=32
    ),
    "mnist": _Published(datasets.MNIST, (0.1307,) * 3, (0.3081,) * 3, side=28, flip=False),
    "fashionmnist": _Published(datasets.FashionMNIST, (0.2860,) * 3, (0.3530,) * 3, side=28),
}


def open_digits(input_size: tuple[int, ...]) -> Data:
    """scikit-learn's 1,797 scans of handwritten digits, 8×8; a fifth of each class for the test."""
    extras.need("--data digits", "digits", "sklearn")
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


def open_published(name: str, input_size: tuple[int, ...], root: Path, download: bool) -> Data:
    """Opens one of torchvision's small data sets, which is downloaded only if that is allowed."""
    kind = PUBLISHED[name]
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
