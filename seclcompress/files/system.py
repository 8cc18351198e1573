"""What is asked of the operating system: two names exchanged in one step, locks, data on the disk."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # of Linux's renameat2
_RENAME_SWAP = 2  # of macOS's renamex_np


def exchange(one: Path, other: Path) -> bool:
    """Gives each of two names what the other one had, in one step.

    Args:
        one: A file or folder.
        other: Another one on the same file system.

    Returns:
        False where this system or file system cannot; nothing has happened then.
    """
    names = os.fsencode(one), os.fsencode(other)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return bool(library.renamex_np(*names, ctypes.c_uint(_RENAME_SWAP)) == 0)
        at = ctypes.c_int(_AT_FDCWD)
        done = library.renameat2(at, names[0], at, names[1], ctypes.c_uint(_RENAME_EXCHANGE))
        return bool(done == 0)
    except (AttributeError, OSError, TypeError):  # a C library without it, or none at all
        return False


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds a folder's lock for the length of a block; it ends with the process, however that ends.

    Args:
        folder: A folder. The lock is on the folder itself, so no file of a lock stays behind.
        wait: Whether to wait for another process that holds it.

    Yields:
        Whether the lock is held. Not every file system has locks.
    """
    if sys.platform == "win32":
        yield False
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(handle)


def umask() -> int:
    """The mask that new files' permissions go through; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync_file(path: Path) -> None:
    """Returns when a file's content is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Returns when a folder's names are on the disk."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
