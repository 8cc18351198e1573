"""Draws the training images that are shown to networks without training them."""

from __future__ import annotations

from torch import Tensor

from seclcompress.data import Data, Presentation
from seclcompress.data.order import shuffled
from seclcompress.observer import Observer
from seclcompress.settings.training import TrainingSettings


def draw_pictures(
    data: Data, number: int, flag: str, settings: TrainingSettings, observer: Observer
) -> tuple[Tensor, Presentation]:
    """Draws some training images at random, and says how they are shown: as they are in a test.

    Args:
        data: The data set.
        number: How many images are asked for.
        flag: The option that asks for them, such as `--pictures`.
        settings: Their seed, device and workers are used.
        observer: Is told if there are fewer.

    Returns:
        The indices of the images, shape (count,), and their presentation.
    """
    order = shuffled(len(data.train), settings.seed, 0)[:number]
    if len(order) < number:
        observer.message(
            f"{data.name} has {len(order):,} training images, fewer than {flag} {number:,}: all of them "
            "are used."
        )
    presentation = Presentation(
        data.input_size, data.preprocessing, device=settings.device, workers=settings.workers
    )
    return order, presentation
