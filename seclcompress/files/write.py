"""Files and folders that appear whole or not at all, in place of an earlier one or not."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from seclcompress.errors import ArtefactError
from seclcompress.files.legacy import LEGACY_RUN
from seclcompress.files.manifest import (
    LINK,
    MANIFEST,
    ManifestError,
    is_named,
    manifest_bytes,
    read_manifest,
)
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
        _replace_file(path, content)
    except OSError as error:
        raise ArtefactError(f"Cannot write {path}: {error.strerror or error}.") from error


def _replace_file(path: Path, content: bytes) -> None:
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


def give_second_name(path: Path, second: Path) -> bool:
    """Gives a file one more name, without a moment in which another file by that name is missing.

    Args:
        path: A file.
        second: A name in the same folder; a file by that name is replaced in one step.

    Returns:
        False where the file system has no hard links, or refuses; nothing has happened then.
    """
    link = second.with_name(f".{second.name}.{LINK}")
    try:
        link.unlink(missing_ok=True)
        os.link(path, link)
        link.replace(second)
    except OSError:
        return False
    return True


def note(folder: Path, *entries: str) -> None:
    """Notes in a folder's manifest that files by these names are ours, before they are written there.

    A folder without a manifest gets one, and a run in progress of 0.1 one that names its files too.

    Args:
        folder: A folder that is filled bit by bit; made with the folders around it.
        entries: File names. One may end in `*` behind at least 8 characters, where a library adds to a
            name.

    Raises:
        ManifestError: If an entry is no plain file name.
        ArtefactError: If the folder has a manifest of another program, or the system refuses.
    """
    path = folder / MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            known = _known(folder)
            if not known.issuperset((MANIFEST, *entries)):
                _replace_file(path, manifest_bytes(known.union(entries)))
    except OSError as error:
        raise ArtefactError(f"Cannot write {path}: {error.strerror or error}.") from error


def _known(folder: Path) -> frozenset[str]:
    """What a manifest names already; what 0.1 left of a run in progress where there is none."""
    try:
        entries = read_manifest(folder)
    except ManifestError as error:
        raise ArtefactError(
            f"Cannot write in {folder}: its {MANIFEST} {error}. Move it away, or choose another place."
        ) from error
    if entries is not None:
        return entries
    of_0_1 = any(is_named(file, LEGACY_RUN) for file in folder.iterdir())
    return LEGACY_RUN if of_0_1 else frozenset()


def add_file(folder: Path, name: str, content: bytes) -> None:
    """Writes a file in a folder that is filled bit by bit, and notes its name before.

    Args:
        folder: The folder; made with the folders around it.
        name: The file's name; a file that is there is replaced in one step.
        content: The whole content.

    Raises:
        ArtefactError: If the system refuses; the old file is still there.
    """
    note(folder, name)
    write_file(folder / name, content)


def write_folder(path: Path, files: Mapping[str, bytes], overwrite: bool = False) -> None:
    """Writes a folder that appears under its name whole, or not at all.

    The files come into a temporary folder beside it, which gets the name at the end. Its manifest comes
    first, so that whenever the process is killed the next one knows all that is there as ours. What
    earlier processes left is removed on the way.

    Args:
        path: The folder's final place.
        files: The files' contents by name. A `config.json` among them must hold
            `{"versions": {"seclcompress": …}}`, as that of another program is never replaced.
        overwrite: Whether a folder of ours that is there already may be replaced.

    Raises:
        ManifestError: If a name is no plain file name.
        ArtefactError: If the place is taken or the system refuses.
    """
    if MANIFEST in files:
        raise ManifestError(f"{MANIFEST} is written by the folder itself")
    manifest = manifest_bytes(files)
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
                # In one step: a part of a manifest would make the rest nobody's.
                _replace_file(temporary / MANIFEST, manifest)
                for name, content in files.items():
                    (temporary / name).write_bytes(content)
                    sync_file(temporary / name)
                sync_folder(temporary)
                with locked(path.parent):
                    _move_into_place(temporary, path, overwrite)
            finally:
                # Where the names were exchanged this is the old folder.
                _discard(temporary)
    except OSError as error:
        raise ArtefactError(f"Cannot write {path}: {error.strerror or error}.") from error


def _discard(folder: Path) -> None:
    """Removes what is ours of a temporary folder; if the system refuses, the next run tries again."""
    with contextlib.suppress(OSError):
        if folder.is_dir():
            remove_ours(folder)


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
