"""The share of training images that was held out when a network was trained, and is its test."""

from __future__ import annotations

from dataclasses import dataclass

from seclcompress.artefact import ArtefactConfig, place, read_config
from seclcompress.data import has_test_images
from seclcompress.errors import UsageError
from seclcompress.observer import Observer
from seclcompress.resolve import is_folder
from seclcompress.settings.training import TrainingSettings
from seclcompress.wording import without_path

#: The share of the training images that candidates are compared on, where none is chosen.
COMPARED_ON = 0.1


@dataclass(frozen=True)
class Share:
    """What was held out of which data.

    Attributes:
        data: The data set as it was named; of a folder, an exported file has the last name alone.
        validation: The share, between 0 and 1.
    """

    data: str
    validation: float


def share_of(config: ArtefactConfig | None) -> Share | None:
    """What a saved folder's training held out; None if it held out nothing, or was no training."""
    training = {} if config is None else config.training
    data, share = training.get("data"), training.get("validation")
    if not isinstance(data, str) or not isinstance(share, float) or not 0 < share < 1:
        return None
    return Share(data, share)


def with_teachers_share(
    settings: TrainingSettings, teacher: str, data: str, *, download: bool, observer: Observer
) -> TrainingSettings:
    """The settings with the share that was for the test when the teacher was trained.

    Otherwise its student would be tested on images that the teacher has seen.

    Args:
        settings: The settings.
        teacher: The teacher as the person named it.
        data: The data set that is asked for. If it has test images of its own, nothing changes.
        download: Whether a repository of the Hub may be downloaded.
        observer: Receives what was decided.
    """
    if not is_folder(teacher) or has_test_images(data):
        return settings
    config = read_config(place(teacher, download=download))
    return with_share(settings, teacher, share_of(config), data, observer)


def with_share(
    settings: TrainingSettings,
    network: object,
    held_out: Share | None,
    data: str,
    observer: Observer,
) -> TrainingSettings:
    """The settings with the share of a folder that was for the test when a network was trained.

    Args:
        settings: The settings.
        network: The network as the person named it.
        held_out: What was held out when it was trained.
        data: The data set that is asked for.
        observer: Receives what was decided.

    Raises:
        UsageError: If a share is given although the data have test images of their own.
    """
    if has_test_images(data):
        if settings.validation is not None:
            raise UsageError(
                f"--validation {settings.validation:g}: {data} has test images of its own, and they are "
                "what is evaluated. Drop --validation."
            )
        return settings
    if held_out is None or held_out.data not in (data, without_path(data)):
        return settings
    share = held_out.validation
    if settings.validation is None:
        observer.message(
            f"{network} was trained with --validation {share:g} on {data}: the same images are the test."
        )
        return settings.model_copy(update={"validation": share})
    if settings.validation != share:
        observer.message(
            f"{network} was trained with --validation {share:g} on {data}: with "
            f"--validation {settings.validation:g} some test images may be ones that it was trained on."
        )
    return settings


def for_comparing(settings: TrainingSettings) -> TrainingSettings:
    """The settings of runs that are compared: on held-out images, in any case."""
    if settings.validation is not None:
        return settings
    return settings.model_copy(update={"validation": COMPARED_ON})


def tell_comparing(what: str, settings: TrainingSettings, observer: Observer) -> None:
    """Says on which images runs are compared, where nobody has chosen a share.

    Args:
        what: What is compared, such as "Trials".
        settings: The settings as they were asked for.
        observer: Receives it.
    """
    if settings.validation is None:
        observer.message(
            f"{what} are compared on {COMPARED_ON:g} of the training images, which are held out "
            "(--validation)."
        )
