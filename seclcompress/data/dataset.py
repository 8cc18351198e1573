"""A data set that is open: its images, its classes, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from seclcompress.data.decoding import Unreadable
from seclcompress.data.images import Images
from seclcompress.errors import DataError
from seclcompress.preprocessing import Preprocessing


@dataclass(frozen=True)
class Data:
    """A data set: training images, test images, perhaps validation images, and the classes' names.

    Attributes:
        name: The name as on the command line.
        open_train: Opens the training images.
        open_test: Opens the test images.
        classes: The names of the classes, in the order of their indices.
        input_size: The network's input size (channels, H, W).
        preprocessing: Size, mean and standard deviation.
        crop: Whether random crops suit these images.
        flip: Whether mirror images suit these images.
        knows_statistics: Whether the preprocessing has the statistics of these very images. Otherwise it
            is assumed.
        notes: Sentences on what a person should know of the data, such as files that were not read.
        files: A fingerprint of the names of the files, part by part; empty if there are none.
        open_validation: Opens the validation images, which are held out of the training images; None if
            none are.
        unreadable: Images that were left out because they cannot be read, as far as they were met.
    """

    name: str
    open_train: Callable[[], Images]
    open_test: Callable[[], Images]
    classes: list[str]
    input_size: tuple[int, ...]
    preprocessing: Preprocessing
    crop: bool = True
    flip: bool = True
    knows_statistics: bool = True
    notes: tuple[str, ...] = ()
    files: str = ""
    open_validation: Callable[[], Images] | None = None
    unreadable: Unreadable = field(default_factory=Unreadable)

    @cached_property
    def train(self) -> Images:
        """The training images; opened, and possibly decoded, at the first access."""
        return self.open_train()

    @cached_property
    def test(self) -> Images:
        """The test images; opened, and possibly decoded, at the first access."""
        return self.open_test()

    @cached_property
    def validation(self) -> Images | None:
        """The validation images, opened at the first access; None if none are held out."""
        return None if self.open_validation is None else self.open_validation()

    @property
    def parts(self) -> dict[str, Images]:
        """The parts that there are, by name: `training`, `test`, and perhaps `validation`."""
        held = {} if self.validation is None else {"validation": self.validation}
        return {"training": self.train, "test": self.test, **held}


def check_labels(data: Data) -> None:
    """Checks that there are images and that every label is the index of a class.

    Raises:
        DataError: If not.
    """
    for part, images in data.parts.items():
        if not len(images):
            raise DataError(f"{data.name} has no {part} images.")
        low, high = int(images.labels.min()), int(images.labels.max())
        if low < 0 or high >= len(data.classes):
            raise DataError(
                f"{data.name} has {part} images with labels from {low} to {high}, but "
                f"{len(data.classes)} classes."
            )
