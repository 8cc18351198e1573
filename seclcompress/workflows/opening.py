"""Opens the data set of a workflow, and says what was assumed on the way."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from seclcompress.data import DEFAULT_ROOT, Data, align_classes, load_data
from seclcompress.data.folders import Reading
from seclcompress.data.published import PUBLISHED
from seclcompress.errors import DataError, SeclcompressWarning, UsageError
from seclcompress.observer import Observer
from seclcompress.preprocessing import IMAGENET, Preprocessing
from seclcompress.settings.training import TrainingSettings
from seclcompress.wording import listed, numbers

_WORDNET_ID = re.compile(r"n\d{8}")
_IMAGENET_CLASSES = 1000


class Viewer(Protocol):
    """What is asked of a network that sees images: a `Located`, or an exported file."""

    @property
    def label(self) -> str:
        """What the person typed."""

    @property
    def input_size(self) -> tuple[int, ...]:
        """(channels, *spatial)."""

    @property
    def folder(self) -> Path | None:
        """Where it lies; None for a network with a name."""

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How its images become inputs, if it is known."""

    @property
    def classes(self) -> list[str] | None:
        """The names of its classes, if they are known."""


def open_data(
    name: str,
    network: Viewer,
    settings: TrainingSettings,
    *,
    teacher: Viewer | None = None,
    trained: bool,
    data_dir: Path | None,
    download: bool,
    observer: Observer,
) -> Data:
    """Opens a data set as a network and the settings ask.

    Its classes have the order of the network's, or else of the teacher's, where these are known.

    Args:
        name: One of `data.NAMES`.
        network: The network that sees the images: their size, preprocessing and classes.
        settings: Those about images are used.
        teacher: The network's teacher, whose preprocessing and classes count where the network knows
            none.
        trained: Whether the network may have trained weights, which expect some preprocessing.
        data_dir: The folder of torchvision's data sets; None for the default.
        download: Whether a missing data set may be downloaded.
        observer: Receives reports while the data are opened and, at the first access, decoded.

    Raises:
        UsageError: If the name is unknown, or settings contradict each other.
        DataError: If the data are missing, empty or damaged, or have other classes than the network.
    """
    reading = Reading(
        settings.cache_images, settings.bad_images == "skip", partial(observer.decoding, name)
    )
    with observer.working(f"Opening {name} …"):
        data = load_data(
            name,
            network.input_size,
            root=data_dir or DEFAULT_ROOT,
            download=download,
            train_images=settings.train_images,
            validation=settings.validation,
            reading=reading,
        )
    if data_dir is not None and name not in PUBLISHED:
        observer.message(
            f"--data-dir {data_dir}: {name} does not lie there, so it changes nothing."
        )
    for words in data.notes:
        observer.message(words)
    known = network.preprocessing or (teacher.preprocessing if teacher else None)
    preprocessing, assumed = choose_preprocessing(
        settings, known, data, label=network.label, trained=trained
    )
    if settings.randaugment and network.input_size[0] not in (1, 3):
        raise UsageError(
            f"--randaugment {settings.randaugment}: it changes colours, and {network.label} takes "
            f"{network.input_size[0]} channels. Drop it."
        )
    side = min(network.input_size[1:])
    if settings.cutout > side:
        raise UsageError(
            f"--cutout {settings.cutout}: the square is larger than the images, whose shorter side is "
            f"{side} pixels, so that little or nothing of them would be seen. Give at most {side}."
        )
    for located in (network, teacher):
        _check_published_order(located, data, settings.classes_by_order)
    data, aligned = align_classes(
        replace(data, preprocessing=preprocessing),
        *_classes(network, teacher),
        by_order=settings.classes_by_order,
    )
    for said in (assumed, aligned):
        if said is not None:
            observer.message(said)
    return data


def tell_left_out(data: Data) -> None:
    """Warns at the end of the work of images that were left out, in one sentence."""
    words = data.unreadable.summary(data.name)
    if words is not None:
        warnings.warn(words, SeclcompressWarning, stacklevel=2)


def _classes(network: Viewer, teacher: Viewer | None) -> tuple[list[str] | None, str]:
    """The classes that a network, or else its teacher, was trained on, and whose they are."""
    for located in (network, teacher):
        if located is not None and located.classes:
            return located.classes, located.label
    return None, network.label


def _check_published_order(network: Viewer | None, data: Data, by_order: bool) -> None:
    """Refuses a folder of 1,000 classes for ImageNet's weights if its names are no WordNet ids.

    The weights know the classes in the order of their WordNet ids. Their names are no help: some occur
    twice, and folders spell them in many ways.
    """
    if network is None or network.folder is not None or network.preprocessing is None or by_order:
        return  # no published weights
    if not data.name.startswith("imagefolder:"):
        return
    odd = [name for name in data.classes if not _WORDNET_ID.fullmatch(name)]
    if odd and len(data.classes) == _IMAGENET_CLASSES:
        raise DataError(
            f"{data.name} has as many classes as the weights of {network.label}, which are in the order "
            f"of WordNet ids (n01440764, …), but its folders have other names: {listed(odd, 3)}. Rename "
            "them to WordNet ids, or say --classes-by-order if they are in that order."
        )


def choose_preprocessing(
    settings: TrainingSettings,
    known: Preprocessing | None,
    data: Data,
    *,
    label: str,
    trained: bool,
) -> tuple[Preprocessing, str | None]:
    """Decides how pixel values become a network's inputs.

    Args:
        settings: `preprocessing`, `mean` and `std` come first.
        known: The preprocessing that the network was trained with; None if it is not known.
        data: The data set, with its own preprocessing.
        label: The network's name, for messages.
        trained: Whether the network may have trained weights.

    Returns:
        The preprocessing, and a sentence on what was assumed, or None.

    Raises:
        UsageError: If the settings contradict each other or do not suit the channels.
    """
    channels = data.input_size[0]
    base = (known or data.preprocessing).for_channels(channels)
    given = _given(settings, channels)
    if given is not None:
        chosen = base.model_copy(update={"mean": given[0], "std": given[1]})
        if known is not None and chosen != base:
            return chosen, (
                f"{label} is used to mean {numbers(base.mean)} and standard deviation "
                f"{numbers(base.std)}; now it sees {numbers(chosen.mean)} and {numbers(chosen.std)}."
            )
        return chosen, None
    if known is not None or (data.knows_statistics and not trained):
        return base, None
    whose = (
        "ImageNet's" if base.mean == IMAGENET.mean and base.std == IMAGENET.std else "by default"
    )
    whose = f"those of {data.name}" if data.knows_statistics else whose
    return base, (
        f"Assumed for {label} on {data.name}: mean {numbers(base.mean)} and standard deviation "
        f"{numbers(base.std)} ({whose}). --mean and --std change it; --preprocessing plain leaves the "
        "pixel values from 0 to 1 as they are."
    )


def _given(
    settings: TrainingSettings, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation as the settings name them; None if they do not."""
    mean, std, named = settings.mean, settings.std, settings.preprocessing
    if not mean and not std:
        if named == "auto":
            return None
        if named == "plain":
            return (0.0,), (1.0,)
        imagenet = IMAGENET.for_channels(channels)
        return imagenet.mean, imagenet.std
    if not (mean and std):
        raise UsageError("--mean and --std belong together: give both.")
    if named != "auto":
        raise UsageError(
            f"--preprocessing {named} has its own --mean and --std: drop one or the other."
        )
    for option, values in (("--mean", mean), ("--std", std)):
        if len(values) not in (1, channels):
            raise UsageError(
                f"{option} has {len(values)} numbers; the network takes {channels} channels. Give one "
                "number for all of them, or one for each."
            )
    return mean, std
