"""Services of the operating system: the atomic exchange of two names, locks, and syncing to disk."""

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
    """Exchanges two names atomically.

    Args:
        one: A file or folder.
        other: Another file or folder on the same file system.

    Returns:
        Whether the names were exchanged; False if the system or file system does not support this.
    """
    names = os.fsencode(one), os.fsencode(other)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return bool(library.renamex_np(*names, ctypes.c_uint(_RENAME_SWAP)) == 0)
        at = ctypes.c_int(_AT_FDCWD)
        done = library.renameat2(at, names[0], at, names[1], ctypes.c_uint(_RENAME_EXCHANGE))
        return bool(done == 0)
    except (AttributeError, OSError, TypeError):  # no such function, or no C library
        return False


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds a lock on a folder for the duration of a block, or until the process ends.

    Args:
        folder: A folder. The lock is on the folder itself, so no lock file is left behind.
        wait: Whether to wait while another process holds the lock.

    Yields:
        Whether the lock is held. It is not if another process holds it and `wait` is False, or if the
        system or file system has no locks.
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
    """The permission mask for new files. The system only returns it when a new mask is set."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync_file(path: Path) -> None:
    """Waits until a file's content is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Waits until a folder's list of names is on the disk; does nothing on Windows."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
