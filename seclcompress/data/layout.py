"""The parts of a data folder: training and test images, as folders or as a share of one folder."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from seclcompress.data.finding import Found, class_folders, find_images
from seclcompress.errors import DataError, UsageError
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
    """

    classes: list[str]
    train: Samples
    test: Samples
    notes: tuple[str, ...] = ()


def find_parts(folder: Path, validation: float | None = None) -> Parts:
    """Finds the training and test images of a folder.

    Args:
        folder: It contains `train/` (or `training/`) and `val/` (or `valid/`, `validation/`, `test/`),
            each with one folder per class; or, with a share for validation, the class folders
            themselves.
        validation: The share of each class's images that becomes test images; None for a folder of test
            images.

    Raises:
        DataError: If there is no such folder, or images are missing.
        UsageError: If a share is given although the folder has test images.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    names = class_folders(folder)
    train = _one(folder, names, _TRAINING)
    test = _one(folder, names, _VALIDATION) or _one(folder, names, _TEST)
    if validation is not None:
        if test is not None:
            raise UsageError(
                f"--validation {validation:g}: {folder} has test images in {test}/ already; drop "
                "--validation, or name a folder without them."
            )
        return _split(find_images(folder if train is None else folder / train), validation)
    if train is None or test is None:
        raise DataError(_missing(folder, names, train, test))
    pair = pair_of(find_images(folder / train), find_images(folder / test))
    unused = [name for name in names if name not in (train, test)]
    if not unused:
        return pair
    words = f"{folder}: the test images are those of {test}/; not used: {listed(unused)}."
    return Parts(pair.classes, pair.train, pair.test, (*pair.notes, words))


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
    return f"{folder} has no folder of training images: {wanted}."


def _split(found: Found, share: float) -> Parts:
    """Takes the same share of each class for the test: always the same images, on any machine.

    The images of a class are ordered by a hash of their names, so files that are added later move few of
    the others.
    """
    by_class: dict[int, list[str]] = defaultdict(list)
    for path, label in found.samples:
        by_class[label].append(path)
    test: set[str] = set()
    for label, paths in by_class.items():
        if len(paths) < 2:
            raise DataError(
                f"--validation {share:g}: class {found.classes[label]} of {found.folder} has one image, "
                "which cannot be for training and for the test. Add images, or remove the class."
            )
        count = min(max(1, round(share * len(paths))), len(paths) - 1)
        test.update(sorted(paths, key=lambda path: _hash(path, found.folder))[:count])
    train, tested = (
        [sample for sample in found.samples if (sample[0] in test) == wanted]
        for wanted in (False, True)
    )
    note = (
        f"{found.folder}: {len(tested):,} of {len(found.samples):,} images are for the test "
        f"(--validation {share:g}), the same share of each class, always the same ones."
    )
    return Parts(found.classes, train, tested, (*found.notes, note))


def fingerprint(folder: Path, parts: Parts) -> str:
    """A fingerprint of the images' names, part by part, the same wherever the folder lies."""
    digest = hashlib.sha256()
    for samples in (parts.train, parts.test):
        for path, _ in samples:
            digest.update(_name(path, folder) + b"\0")
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _hash(path: str, folder: Path) -> bytes:
    return hashlib.sha256(_name(path, folder)).digest()


def _name(path: str, folder: Path) -> bytes:
    return os.path.relpath(path, folder).replace(os.sep, "/").encode("utf-8", "surrogateescape")
