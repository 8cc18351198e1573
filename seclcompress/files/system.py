"""Services of the operating system: the atomic exchange of two names, locks, and syncing to disk."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
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


#: The folders that this process has claimed, by device and inode.
_claimed: set[tuple[int, int]] = set()


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds a lock on a folder for the duration of a block, or until the process ends.

    Args:
        folder: A folder. The lock is on the folder itself, so no lock file is left behind. If this
            process has claimed the folder (`claim`), it holds the lock already.
        wait: Whether to wait while another process holds the lock.

    Yields:
        Whether the lock is held. It is not if another process holds it and `wait` is False, or if the
        system or file system has no locks.
    """
    handle = _open_folder(folder)
    if handle is None:
        yield False
        return
    try:
        yield _identity(handle) in _claimed or _lock(handle, wait=wait)
    finally:
        os.close(handle)


class Taken(Exception):  # noqa: N818 (the caller turns it into an error in words)
    """Another run, in this process or in another one, has claimed the folder."""


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Makes a folder and keeps it from other runs for the duration of a block.

    The lock vanishes with the process, however that ends. Where the system or the file system has no
    locks, nothing is kept from anybody. If the folder is empty at the end, it is removed.

    Args:
        folder: A folder; missing parents are created.

    Raises:
        Taken: If it is claimed already.
        OSError: If the folder cannot be made.
    """
    handle = None
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _open_folder(folder)
        if handle is None:
            break
        if _is_taken(handle, folder):
            os.close(handle)
            raise Taken
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), folder.stat()):
                break
        os.close(handle)  # another process removed the folder before the lock was ours
    mine = None if handle is None else _identity(handle)
    if mine is not None:
        _claimed.add(mine)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it is not empty, or gone
            folder.rmdir()
        if handle is not None and mine is not None:
            _claimed.discard(mine)
            os.close(handle)


def is_claimed(folder: Path) -> bool:
    """Whether a living run has claimed a folder."""
    handle = _open_folder(folder)
    if handle is None:
        return False
    try:
        return _is_taken(handle, folder)
    finally:
        os.close(handle)


def _is_taken(handle: int, folder: Path) -> bool:
    """Whether this process or another one has claimed a folder; tries to lock it by the handle."""
    if _identity(handle) in _claimed:
        return True
    return not _lock(handle, wait=False) and _has_locks(folder)


def _open_folder(folder: Path) -> int | None:
    if sys.platform == "win32":
        return None
    try:
        return os.open(folder, os.O_RDONLY)
    except OSError:
        return None


def _identity(handle: int) -> tuple[int, int]:
    status = os.fstat(handle)
    return status.st_dev, status.st_ino


def _lock(handle: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _has_locks(folder: Path) -> bool:
    """Whether a file system has locks, tried out on a new folder beside another one.

    Asked only where a lock was refused: another process holds it, or there are none.
    """
    try:
        trial = Path(tempfile.mkdtemp(prefix=".lock.", dir=folder.absolute().parent))
    except OSError:
        return True
    try:
        handle = _open_folder(trial)
        if handle is None:
            return False
        try:
            return _lock(handle, wait=False)
        finally:
            os.close(handle)
    finally:
        trial.rmdir()


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
