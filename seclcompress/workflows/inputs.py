"""Locates the networks of a run and opens its data, before anything is built or written."""

from __future__ import annotations

from pathlib import Path

from seclcompress.data import Data
from seclcompress.errors import DataError
from seclcompress.networks import check_image_classification
from seclcompress.observer import Observer
from seclcompress.resolve import Located, is_name, locate
from seclcompress.settings.training import TrainingSettings
from seclcompress.workflows.held_out import with_teachers_share
from seclcompress.workflows.opening import open_data
from seclcompress.workflows.sizing import choose_input_size
from seclcompress.workflows.teaching import check_teaches, locate_teacher


def find_for_training(
    network: str,
    data: str,
    settings: TrainingSettings,
    *,
    weights: str | None,
    weights_key: str | None,
    num_classes: int | None,
    input_size: tuple[int, ...] | None,
    data_dir: Path | None,
    factory: str | None,
    download: bool,
    observer: Observer,
) -> tuple[Located, Data]:
    """Locates the network and opens the data; the arguments are those of `workflows.train`.

    If it is not given, the number of classes of a named network is that of the data.
    """
    named = is_name(network)
    input_size = choose_input_size(
        network,
        data,
        input_size,
        weights=weights,
        validation=settings.validation,
        train=True,
        observer=observer,
    )
    source = locate(
        network,
        weights=weights,
        weights_key=weights_key,
        num_classes=num_classes,
        input_size=input_size,
        factory_name=factory,
        download=download,
    )
    check_image_classification(source.network, "train")
    images = open_data(
        data,
        source,
        settings,
        trained=source.folder is not None or weights is not None,
        data_dir=data_dir,
        download=download,
        observer=observer,
    )
    _check_classes(images, observer)
    if named and num_classes is None:
        source = locate(
            network,
            weights=weights,
            weights_key=weights_key,
            num_classes=len(images.classes),
            input_size=source.input_size,
            download=download,
        )
    return source, images


def find_for_distilling(
    student: str,
    teacher: str,
    data: str,
    settings: TrainingSettings,
    *,
    teacher_weights: str | None,
    teacher_weights_key: str | None,
    input_size: tuple[int, ...] | None,
    teacher_input_size: tuple[int, ...] | None,
    data_dir: Path | None,
    factory: str | None,
    download: bool,
    observer: Observer,
) -> tuple[Located, Located, Data, TrainingSettings]:
    """Locates student and teacher, and opens the data.

    The arguments are those of `workflows.distill`.

    Returns:
        The student, the teacher, the data, and the settings; where the data have no test images of their
        own, these have the share that was for the test when the teacher was trained.
    """
    settings = with_teachers_share(settings, teacher, data, download=download, observer=observer)
    input_size = choose_input_size(
        student,
        data,
        input_size,
        weights=None,
        validation=settings.validation,
        train=True,
        observer=observer,
    )
    found = locate(student, input_size=input_size, factory_name=factory, download=download)
    guide = locate_teacher(
        teacher,
        found,
        weights=teacher_weights,
        weights_key=teacher_weights_key,
        input_size=teacher_input_size,
        factory=factory,
        download=download,
    )
    check_teaches(found, guide)
    images = open_data(
        data,
        found,
        settings,
        teacher=guide,
        trained=guide.weights is not None or guide.folder is None,
        data_dir=data_dir,
        download=download,
        observer=observer,
    )
    _check_classes(images, observer)
    if settings.alpha == 0 and settings.beta == 0:
        observer.message(
            "--alpha 0 and --beta 0: nothing is learnt from the teacher; the student learns from the "
            "labels alone, as by train."
        )
    if found.config is not None and found.config.plan is None and not found.network.widths:
        observer.message(
            f"{found.label} is not converted: it is trained as it is. `convert` makes it smaller first."
        )
    return found, guide, images, settings


def _check_classes(images: Data, observer: Observer) -> None:
    """Refuses data from which no network can learn to tell anything apart, and says what is scarce."""
    number, classes = len(images.train), len(images.classes)
    if number < classes:
        observer.message(
            f"{images.name} has {number:,} training images for {classes:,} classes: some classes have "
            "none, and cannot be learnt."
        )
    if len(images.classes) < 2:
        raise DataError(
            f"{images.name} has one class, {images.classes[0]}: there is nothing to tell apart. "
            "Training needs the folders of two classes or more."
        )
