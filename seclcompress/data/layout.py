"""The parts of a data folder: training and test images, as folders or as a share of one folder."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from seclcompress.data.finding import Found, class_folders, find_images
from seclcompress.data.held_out import how_many
from seclcompress.errors import DataError
from seclcompress.files import missing_folder
from seclcompress.wording import listed

_TRAINING = ("train", "training")
_VALIDATION = ("val", "valid", "validation")
_TEST = ("test",)

Samples = list[tuple[str, int]]


@dataclass(frozen=True)
class Parts:
    """The images of a data folder.

    Attributes:
        classes: The names of the classes, in the order of their indices.
        train: Paths and class indices of the training images.
        test: Paths and class indices of the test images.
        notes: Sentences on what was not read, and on what was chosen.
        validation: Paths and class indices of the images that are held out of the training images.
    """

    classes: list[str]
    train: Samples
    test: Samples
    notes: tuple[str, ...] = ()
    validation: Samples = field(default_factory=list)


def find_parts(folder: Path, validation: float | None = None) -> Parts:
    """Finds the training and test images of a folder.

    Args:
        folder: It contains `train/` (or `training/`) and `val/` (or `valid/`, `validation/`, `test/`),
            each with one folder per class; or, with a share for validation, the class folders
            themselves.
        validation: The share of each class's training images that is held out: as validation images, or
            as test images where there is no folder of those. None to hold out nothing.

    Raises:
        DataError: If there is no such folder, or images are missing.
    """
    names, train, test = _named_parts(folder)
    if validation is not None and test is None:
        return _split(find_images(folder if train is None else folder / train), validation)
    if train is None or test is None:
        raise DataError(_missing(folder, names, train, test))
    pair = pair_of(find_images(folder / train), find_images(folder / test))
    unused = [name for name in names if name not in (train, test)]
    if unused:
        words = f"{folder}: the test images are those of {test}/; not used: {listed(unused)}."
        pair = replace(pair, notes=(*pair.notes, words))
    return pair if validation is None else hold_out(pair, folder / train, validation)


def has_test_folder(folder: Path) -> bool:
    """Whether a data folder has test images of its own.

    Raises:
        DataError: If there is no such folder, or it has several of the kind.
    """
    return _named_parts(folder)[2] is not None


def _named_parts(folder: Path) -> tuple[list[str], str | None, str | None]:
    """The folders in a data folder; of them, those of the training images and of the test images."""
    missing = missing_folder(folder)
    if missing is not None:
        hint = " Name the folder that holds the images' folders." if folder.exists() else ""
        raise DataError(missing + hint)
    names = class_folders(folder)
    test = _one(folder, names, _VALIDATION) or _one(folder, names, _TEST)
    return names, _one(folder, names, _TRAINING), test


def pair_of(train: Found, test: Found) -> Parts:
    """Makes the parts of two folders, which must have the same classes.

    Raises:
        DataError: If their classes differ.
    """
    if train.classes != test.classes:
        only = [
            f"only {mine.folder.name}/ has {listed(set(mine.classes) - set(other.classes))}"
            for mine, other in ((train, test), (test, train))
            if set(mine.classes) - set(other.classes)
        ]
        raise DataError(
            f"{train.folder.parent}: {train.folder.name}/ and {test.folder.name}/ have different "
            f"classes: {', '.join(only)}. Both need the same class folders."
        )
    return Parts(train.classes, train.samples, test.samples, (*train.notes, *test.notes))


def _one(folder: Path, names: list[str], spellings: tuple[str, ...]) -> str | None:
    """The folder of a part, in any spelling and case; None if there is none."""
    found = [name for name in names if name.lower() in spellings]
    if len(found) > 1:
        raise DataError(
            f"{folder} has {' and '.join(f'{name}/' for name in found)}: which of them is meant? Rename "
            "or remove the others."
        )
    return found[0] if found else None


def _missing(folder: Path, names: list[str], train: str | None, test: str | None) -> str:
    wanted = (
        "it needs train/ and one of val/, valid/, validation/ or test/, each with class folders"
    )
    if train is not None or (names and test is None):
        where = f"{train}/" if train is not None else "these class folders"
        lying = "" if train is not None else f" It has {listed(names)}."
        return (
            f"{folder} has no folder of test images: {wanted}.{lying} --validation 0.2 would test on a "
            f"fifth of each class in {where}, always the same one."
        )
    lying = "" if names else " It holds no folders."
    return (
        f"{folder} has no folder of training images: {wanted}.{lying} Class folders alone will do with "
        "--validation 0.2."
    )


def hold_out(parts: Parts, folder: Path, share: float) -> Parts:
    """Takes a share of each class of the training images for validation, by their names.

    Args:
        parts: Training and test images.
        folder: The folder of the training images.
        share: The share, between 0 and 1.

    Raises:
        DataError: If a class has one training image.
    """
    train, held = _divide(parts.train, parts.classes, folder, share)
    note = (
        f"{folder}: {len(held):,} of {len(parts.train):,} training images are held out to choose the "
        f"best epoch (--validation {share:g}), the same share of each class, always the same ones."
    )
    return replace(parts, train=train, validation=held, notes=(*parts.notes, note))


def _split(found: Found, share: float) -> Parts:
    """Takes a share of each class for the test, where there are no other test images."""
    train, tested = _divide(found.samples, found.classes, found.folder, share)
    note = (
        f"{found.folder}: {len(tested):,} of {len(found.samples):,} images are for the test "
        f"(--validation {share:g}), the same share of each class, always the same ones."
    )
    return Parts(found.classes, train, tested, (*found.notes, note))


def _divide(
    samples: Samples, classes: list[str], folder: Path, share: float
) -> tuple[Samples, Samples]:
    """What stays, and the share of each class that is taken: always the same images, on any machine.

    The images of a class are ordered by a hash of their names, so files that are added later move few of
    the others.
    """
    by_class: dict[int, list[str]] = defaultdict(list)
    for path, label in samples:
        by_class[label].append(path)
    taken: set[str] = set()
    for label, paths in by_class.items():
        count = how_many(share, len(paths), f"class {classes[label]} of {folder}")
        taken.update(sorted(paths, key=lambda path: _hash(path, folder))[:count])
    return (
        [sample for sample in samples if sample[0] not in taken],
        [sample for sample in samples if sample[0] in taken],
    )


def fingerprint(folder: Path, parts: Parts) -> str:
    """A fingerprint of the images' names, part by part, the same wherever the folder lies."""
    digest = hashlib.sha256()
    held = [parts.validation] if parts.validation else []  # without any, the fingerprint of before
    for samples in (parts.train, parts.test, *held):
        for path, _ in samples:
            digest.update(_name(path, folder) + b"\0")
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _hash(path: str, folder: Path) -> bytes:
    return hashlib.sha256(_name(path, folder)).digest()


def _name(path: str, folder: Path) -> bytes:
    return os.path.relpath(path, folder).replace(os.sep, "/").encode("utf-8", "surrogateescape")
