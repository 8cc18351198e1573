"""What the examples take for yours: a network, and a folder of pictures. Put your own in their place."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

CLASSES = ("circle", "cross", "square", "triangle")


def network(width: int = 32, num_classes: int = len(CLASSES)) -> nn.Module:
    """Six convolutions; any function that returns a module will do."""
    layers: list[nn.Module] = []
    channels = 3
    for factor, stride in ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2)):
        layers += [
            nn.Conv2d(channels, factor * width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(factor * width),
            nn.ReLU(),
        ]
        channels = factor * width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
    )


def write_pictures(folder: Path, train: int = 150, test: int = 60) -> str:
    """Writes `folder/train/CLASS/0000.png` and so on, and returns the folder's name as data."""
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for name in CLASSES:
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture = Image.fromarray(_picture(name, random))
                picture.save(folder / part / name / f"{number:04}.png")
    return f"imagefolder:{folder}"


def _picture(name: str, random: np.random.Generator, side: int = 24) -> np.ndarray:
    """A shape of any colour, size and place on a darker, noisy ground, (side, side, 3) bytes."""
    y, x = np.mgrid[:side, :side] - random.uniform(0.35, 0.65, (2, 1, 1)) * side
    angle, radius = random.uniform(-0.4, 0.4), random.uniform(0.25, 0.4) * side
    u = (x * np.cos(angle) + y * np.sin(angle)) / radius
    v = (y * np.cos(angle) - x * np.sin(angle)) / radius
    inside = {
        "circle": np.hypot(u, v) < 0.9,
        "cross": np.minimum(abs(u), abs(v)) + 10 * (np.maximum(abs(u), abs(v)) > 1) < 0.3,
        "square": np.maximum(abs(u), abs(v)) < 0.8,
        "triangle": np.maximum(-v, abs(u) * 0.87 + v / 2) < 0.6,
    }[name]
    ground, ink = random.uniform(0, 100, 3), random.uniform(100, 255, 3)
    pixels = np.where(inside[..., None], ink, ground) + random.normal(0, 40, (side, side, 3))
    return pixels.clip(0, 255).astype(np.uint8)
