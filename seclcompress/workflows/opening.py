"""Opens the data set of a workflow."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from seclcompress.data import DEFAULT_ROOT, Data, load_data
from seclcompress.data.folders import Reading
from seclcompress.observer import Observer
from seclcompress.preprocessing import Preprocessing
from seclcompress.settings.training import TrainingSettings


def open_data(
    name: str,
    input_size: tuple[int, ...],
    preprocessing: Preprocessing | None,
    settings: TrainingSettings,
    *,
    data_dir: Path | None,
    download: bool,
    observer: Observer,
) -> Data:
    """Opens a data set as the settings ask.

    Args:
        name: One of `data.NAMES`.
        input_size: The size (3, H, W) that images are resized to.
        preprocessing: The preprocessing that the network was trained with; None for the data set's own.
        settings: `train_images`, `cache_images` and `bad_images` are used.
        data_dir: The folder of torchvision's data sets; None for the default.
        download: Whether a missing data set may be downloaded.
        observer: Receives reports while the data are opened and, at the first access, decoded.

    Raises:
        UsageError: If the name is unknown.
        DataError: If the data are missing, empty or damaged.
    """
    reading = Reading(
        settings.cache_images, settings.bad_images == "skip", partial(observer.decoding, name)
    )
    with observer.working(f"Opening {name} …"):
        return load_data(
            name,
            input_size,
            preprocessing=preprocessing,
            root=data_dir or DEFAULT_ROOT,
            download=download,
            train_images=settings.train_images,
            reading=reading,
        )
