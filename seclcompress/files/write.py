"""Files and folders that appear whole or not at all, in place of an earlier one or not."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from seclcompress.errors import ArtefactError
from seclcompress.files.place import (
    NEW,
    OLD,
    check_free,
    neighbours,
    reason_to_leave,
    remove_ours,
    temporary_prefix,
)
from seclcompress.files.system import exchange, locked, sync_file, sync_folder, umask


def write_file(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name beside it, synced, then renamed over it.

    Args:
        path: Where the content belongs; a file that is there is replaced in one step.
        content: The whole content.

    Raises:
        ArtefactError: If the system refuses (disk full, no permission); the old file is still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~umask())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise ArtefactError(f"Cannot write {path}: {error.strerror or error}.") from error


@contextlib.contextmanager
def new_folder(path: Path, overwrite: bool) -> Iterator[Path]:
    """A folder that appears under its name whole, or not at all.

    What processes that were killed have left of earlier attempts is removed on the way.

    Args:
        path: The folder's final place.
        overwrite: Whether a folder of ours that is there already may be replaced.

    Yields:
        A temporary folder beside it, to be filled with files. It gets the name when the block ends
        well and is removed when it does not.

    Raises:
        ArtefactError: If the place is taken or the system refuses.
    """
    check_free(path, overwrite)
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            with locked(path.parent):
                _remove_dead(path)
                prefix = temporary_prefix(path, NEW)
                temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
                stack.enter_context(locked(temporary, wait=False))  # this one is alive
            try:
                temporary.chmod(0o777 & ~umask())
                yield temporary
                for file in temporary.iterdir():
                    sync_file(file)
                sync_folder(temporary)
                with locked(path.parent):
                    _move_into_place(temporary, path, overwrite)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            # In exchange for its name it has got the old folder.
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ArtefactError(f"Cannot write {path}: {error.strerror or error}.") from error


def _remove_dead(path: Path) -> None:
    """Removes what killed processes left of new folders by this name; the caller holds the lock."""
    for near in neighbours(path, NEW):
        with locked(near, wait=False) as dead:
            if dead:
                with contextlib.suppress(OSError):
                    remove_ours(near)


def _move_into_place(temporary: Path, path: Path, overwrite: bool) -> None:
    """Gives a folder its name, with the lock of the folder around it."""
    check_free(path, overwrite)  # somebody may have been quicker
    if not path.exists():
        temporary.rename(path)
    elif exchange(temporary, path):
        reason = reason_to_leave(temporary)
        if reason is not None:  # somebody has put something in since
            exchange(temporary, path)
            raise ArtefactError(f"{path} is not replaced: {reason}. Choose another place.")
    else:
        _replace_in_two_steps(temporary, path)
    sync_folder(path.parent)
    for aside in neighbours(path, OLD):  # of this process, and of one killed in between
        with contextlib.suppress(OSError):
            if (aside / path.name).exists():
                remove_ours(aside / path.name)
            aside.rmdir()


def _replace_in_two_steps(temporary: Path, path: Path) -> None:
    """For systems that cannot exchange names: the old folder steps aside first."""
    aside = Path(tempfile.mkdtemp(prefix=temporary_prefix(path, OLD), dir=path.parent)) / path.name
    try:
        path.rename(aside)
        temporary.rename(path)
    except BaseException:  # Ctrl-C too must not lose the old folder
        if aside.exists() and not path.exists():
            aside.rename(path)
        if not aside.exists():
            aside.parent.rmdir()
        raise
