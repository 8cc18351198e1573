"""What the workflows that look at images begin with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from seclcompress.data import DEFAULT_ROOT, Data, load_data
from seclcompress.data.folders import Reading
from seclcompress.observer import Observer
from seclcompress.preprocessing import Preprocessing
from seclcompress.settings.training import TrainingSettings


def typed(network: str | Path) -> str:
    """A network as a person would type it. A path is a folder, whatever networks are called."""
    if isinstance(network, str):
        return network
    return f"{network.parent.as_posix()}/{network.name}"


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
    """Opens data as the settings say.

    Args:
        name: One of `data.NAMES`.
        input_size: (3, H, W) to resize to.
        preprocessing: What the network was trained with; None for the data set's own.
        settings: How many images, and how they are read.
        data_dir: Where torchvision's data sets lie.
        download: Whether a missing one may be fetched.
        observer: Is told while they are opened and, when first asked for, decoded.

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


def tell_fresh(names: Sequence[str], observer: Observer) -> None:
    """Says which parameters the given weights had no values for."""
    if names:
        observer.message(f"Fresh, for another number of classes: {', '.join(names)}.")
