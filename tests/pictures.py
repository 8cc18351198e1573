"""Small pictures for the tests: folders of plain colours with noise, and files as MNIST has them."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 200, 40),
    "blue": (40, 40, 200),
    "amber": (220, 180, 30),
}


def paint(
    folder: Path,
    classes: Mapping[str, str],
    *,
    parts: Mapping[str, int] | None = None,
    size: tuple[int, int] = (16, 16),
    suffix: str = "png",
) -> str:
    """Paints pictures; returns the name of the data.

    Args:
        folder: The folder to make.
        classes: The colour of each class folder.
        parts: The pictures of a class in each part; "" for class folders without parts.
        size: Height and width.
        suffix: The ending of the files.
    """
    rng = np.random.default_rng(0)
    for part, count in (parts or {"train": 20, "val": 10}).items():
        for name, colour in classes.items():
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.array(COLOURS[colour]) + rng.normal(0, 30, (*size, 3))
                image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
                image.save(folder / part / name / f"{number}.{suffix}")
    return f"imagefolder:{folder}"


def write_mnist(folder: Path, count: int) -> None:
    """Writes a file as torchvision reads it: a big-endian header, then bytes."""
    folder.mkdir(parents=True)
    for part, number in (("train", count), ("t10k", 5)):
        pixels = np.random.default_rng(0).integers(0, 255, (number, 28, 28), dtype=np.uint8)
        labels = (np.arange(number) % 10).astype(np.uint8)
        for words, magic, array in (
            (f"{part}-images-idx3-ubyte", 2051, pixels),
            (f"{part}-labels-idx1-ubyte", 2049, labels),
        ):
            content = struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()
            (folder / words).write_bytes(content)
            (folder / f"{words}.gz").write_bytes(gzip.compress(content))
