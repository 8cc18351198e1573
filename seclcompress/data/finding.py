"""Finds image files in folders, one folder per class, and says which files are left out."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image

from seclcompress.errors import DataError
from seclcompress.wording import listed

#: An array of a picture as NumPy saves it; the only ending that PIL does not read.
ARRAY = ".npy"
_PICTURES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".avif", ".bmp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2"),
)
#: Folders that systems and programs make for themselves. They are no classes.
_OF_SYSTEMS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
#: Files that systems make in every folder. They are not worth a word.
_OF_EVERY_FOLDER = frozenset({"thumbs.db", "desktop.ini"})


@dataclass
class LeftOut:
    """What lies in a folder of images and is not read.

    Attributes:
        endings: The number of files by their ending, "" for none.
        folders: Hidden folders, and folders that systems make.
        loops: Symbolic links to a folder that contains them.
        broken: Symbolic links to nothing.
        special: Named pipes, devices and sockets, which could make a reader wait for ever.
        beside: Files beside the class folders.
    """

    endings: Counter[str] = field(default_factory=Counter)
    folders: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)

    def sentences(self, folder: Path) -> list[str]:
        """One sentence for each kind of thing that was left out of a folder."""
        said = []
        if self.endings:
            files = ", ".join(
                f"{count:,} {ending or '(no ending)'}"
                for ending, count in sorted(self.endings.items())
            )
            plural = "file was" if self.endings.total() == 1 else "files were"
            said.append(
                f"{folder}: {files} {plural} not read; images end in {', '.join(endings())}."
            )
        for paths, words in (
            (self.folders, "not read, as hidden folders and those of a system are no classes"),
            (self.loops, "not followed, as this symbolic link leads to a folder around itself"),
            (self.broken, "not read, as this symbolic link leads nowhere"),
            (self.special, "not read, as it is no regular file but a pipe, device or socket"),
            (self.beside, "not read, as it lies beside the class folders and not in one"),
        ):
            if paths:
                said.append(f"{folder}: {listed(paths, 3)}: {words}.")
        return said


@dataclass(frozen=True)
class Found:
    """The images of a folder.

    Attributes:
        folder: The folder that contains one folder per class.
        classes: The names of the class folders, sorted.
        samples: Paths and class indices, sorted by class, folder and file.
        notes: Sentences on what was not read.
    """

    folder: Path
    classes: list[str]
    samples: list[tuple[str, int]]
    notes: list[str]


@cache
def endings() -> tuple[str, ...]:
    """The endings of image files that can be read on this machine, in lower case."""
    Image.init()
    able = Image.registered_extensions()
    return (*(ending for ending in _PICTURES if ending in able), ARRAY)


def class_folders(folder: Path) -> list[str]:
    """The names of the class folders in a folder, sorted; hidden ones and those of systems are none.

    Raises:
        DataError: If the folder cannot be read.
    """
    return sorted(
        entry.name for entry in _entries(str(folder)) if _is_folder(entry) and not _hidden(entry)
    )


def find_images(folder: Path) -> Found:
    """Finds the images of all classes of a folder.

    Symbolic links are followed, but not around in circles. Only regular files are images.

    Args:
        folder: A folder that contains one folder per class.

    Raises:
        DataError: If there are no class folders, one has no images, or one cannot be read.
    """
    classes, left = class_folders(folder), LeftOut()
    for entry in _entries(str(folder)):
        if _is_folder(entry):
            if _hidden(entry):
                left.folders.append(entry.name)
        elif _kind(entry) not in (None, stat.S_IFREG) or not _hidden(entry):
            _note_file(entry, entry.name, left, beside=True)
    if not classes:
        raise DataError(
            f"{folder} has no class folders: it needs one folder of images for each class."
        )
    samples: list[tuple[str, int]] = []
    for index, name in enumerate(classes):
        paths = sorted(_images(str(folder / name), name, left), key=os.path.split)
        if not paths:
            seen = " ".join(left.sentences(folder))
            words = (
                f"The class folder {folder / name} has no images. Add some, or remove the folder."
            )
            raise DataError(f"{words} {seen}".strip())
        samples += [(path, index) for path in paths]
    return Found(folder, classes, samples, left.sentences(folder))


def _images(top: str, label: str, left: LeftOut) -> Iterator[str]:
    """Yields the paths of the images in a folder and the folders in it, at any depth."""
    folders = {*Path(top).absolute().parents, *Path(top).resolve().parents}
    above = [_identity(str(folder)) for folder in folders]
    waiting = [(top, label, frozenset({_identity(top), *above}))]
    while waiting:
        folder, shown, around = waiting.pop()
        for entry in _entries(folder):
            name = f"{shown}/{entry.name}"
            if _is_folder(entry):
                identity = _identity(entry.path)
                if _hidden(entry):
                    left.folders.append(name)
                elif identity in around:
                    left.loops.append(name)
                else:
                    waiting.append((entry.path, name, around | {identity}))
            elif _is_image(entry):
                yield entry.path
            else:
                _note_file(entry, name, left)


def _is_image(entry: os.DirEntry[str]) -> bool:
    return (
        _kind(entry) == stat.S_IFREG
        and not _hidden(entry)
        and Path(entry.name).suffix.lower() in endings()
    )


def _note_file(entry: os.DirEntry[str], name: str, left: LeftOut, beside: bool = False) -> None:
    kind = _kind(entry)
    if kind is None:
        left.broken.append(name)
    elif kind != stat.S_IFREG:
        left.special.append(name)
    elif not _hidden(entry) and entry.name.lower() not in _OF_EVERY_FOLDER:
        if beside:
            left.beside.append(name)
        else:
            left.endings[Path(entry.name).suffix.lower()] += 1


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (OSError, ValueError) as error:
        raise DataError(f"The folder {folder} cannot be read: {error}.") from error


def _hidden(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is hidden (as `.ipynb_checkpoints` and macOS's `._x.png`) or a system's own."""
    return entry.name.startswith(".") or entry.name in _OF_SYSTEMS


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return _kind(entry) == stat.S_IFDIR


def _kind(entry: os.DirEntry[str]) -> int | None:
    """The kind of a file, behind symbolic links; None if they lead nowhere."""
    if entry.is_file(follow_symlinks=False):  # known without a question to a slow file system
        return stat.S_IFREG
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    try:
        return stat.S_IFMT(entry.stat().st_mode)
    except OSError:
        return None


def _identity(path: str) -> tuple[int, int]:
    """What two paths of one folder have in common."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise DataError(f"The folder {path} cannot be read: {error}.") from error
    return status.st_dev, status.st_ino
