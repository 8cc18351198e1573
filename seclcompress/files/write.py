"""Writes files and folders that appear whole or not at all, and may replace an earlier one."""

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
    """Writes a file: under a temporary name in the same folder, synced, then renamed to its name.

    Args:
        path: The file's path; an existing file is replaced in one step.
        content: The whole content.

    Raises:
        ArtefactError: If the system refuses (disk full, no permission); an old file is then still there.
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
    """Gives a file a second name (a hard link); an existing file of that name is replaced in one step.

    Args:
        path: A file.
        second: The second name, in the same folder.

    Returns:
        Whether the file has the second name; False if the file system has no hard links or refuses.
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
    """Adds entries to a folder's manifest; call it before the files are written.

    A folder without a manifest gets one. If the folder is a run in progress of 0.1, the new manifest
    also names the files of 0.1.

    Args:
        folder: A folder that is filled file by file. It and its parents are created if missing.
        entries: File names. An entry may be a prefix of at least 8 characters and `*`, for names that a
            library completes.

    Raises:
        ManifestError: If an entry is not allowed.
        ArtefactError: If the folder has another program's manifest, or the system refuses.
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
    """The entries of a folder's manifest; without one, the file names of 0.1 if it wrote there."""
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
    """Notes a file's name in a folder's manifest, then writes the file.

    Args:
        folder: A folder that is filled file by file. It and its parents are created if missing.
        name: The file's name; an existing file is replaced in one step.
        content: The whole content.

    Raises:
        ManifestError: If the name is not allowed.
        ArtefactError: If the folder has another program's manifest, or the system refuses; an old file
            is then still there.
    """
    note(folder, name)
    write_file(folder / name, content)


def write_folder(path: Path, files: Mapping[str, bytes], overwrite: bool = False) -> None:
    """Writes a folder that appears under its name whole, or not at all.

    The steps are:

    1. Make a temporary folder in the same parent folder and lock it, as a sign that its process is
       alive. Temporary folders without a lock are left from killed processes and are removed.
    2. Write the manifest, then the files. If the process is killed, a later one knows from the manifest
       that it may remove the files.
    3. Rename the temporary folder. An existing folder exchanges names with it in one step and is then
       removed; systems without such an exchange rename twice (`_replace_in_two_steps`).

    The parent folder is locked during steps 1 and 3, so that processes do not disturb each other.

    Args:
        path: The folder's final path.
        files: The files' contents by name. A `config.json` among them must contain
            `{"versions": {"seclcompress": …}}`; otherwise it counts as another program's and the folder
            is never replaced.
        overwrite: Whether an existing folder that this program wrote may be replaced.

    Raises:
        ManifestError: If a file name is not allowed.
        ArtefactError: If the path is taken or the system refuses.
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
                stack.enter_context(
                    locked(temporary, wait=False)
                )  # a sign that this process is alive
            try:
                temporary.chmod(0o777 & ~umask())
                # Written in one step: with half a manifest, the folder could never be removed.
                _replace_file(temporary / MANIFEST, manifest)
                for name, content in files.items():
                    (temporary / name).write_bytes(content)
                    sync_file(temporary / name)
                sync_folder(temporary)
                with locked(path.parent):
                    _move_into_place(temporary, path, overwrite)
            finally:
                # If the names were exchanged, this is the old folder.
                _discard(temporary)
    except OSError as error:
        raise ArtefactError(f"Cannot write {path}: {error.strerror or error}.") from error


def _discard(folder: Path) -> None:
    """Removes our files from a temporary folder; if the system refuses, the next run tries again."""
    with contextlib.suppress(OSError):
        if folder.is_dir():
            remove_ours(folder)


def _remove_dead(path: Path) -> None:
    """Removes the temporary new folders of killed processes; the caller holds the parent's lock."""
    for near in neighbours(path, NEW):
        with locked(near, wait=False) as dead:
            if dead:
                with contextlib.suppress(OSError):
                    remove_ours(near)


def _move_into_place(temporary: Path, path: Path, overwrite: bool) -> None:
    """Renames a temporary folder to its final name; the caller holds the lock of the parent folder."""
    check_free(path, overwrite)  # another process may have written it in the meantime
    if not path.exists():
        temporary.rename(path)
    elif exchange(temporary, path):
        reason = reason_to_leave(temporary)
        if reason is not None:  # another program has added a file since the check
            exchange(temporary, path)
            raise ArtefactError(f"{path} is not replaced: {reason}. Choose another place.")
    else:
        _replace_in_two_steps(temporary, path)
    sync_folder(path.parent)
    for aside in neighbours(path, OLD):  # of this process, and of processes killed earlier
        with contextlib.suppress(OSError):
            if (aside / path.name).exists():
                remove_ours(aside / path.name)
            aside.rmdir()


def _replace_in_two_steps(temporary: Path, path: Path) -> None:
    """Replaces a folder on systems that cannot exchange names: the old folder is moved aside first.

    If the process is killed between the two renames, `set_aside` finds the old folder.
    """
    aside = Path(tempfile.mkdtemp(prefix=temporary_prefix(path, OLD), dir=path.parent)) / path.name
    try:
        path.rename(aside)
        temporary.rename(path)
    except BaseException:  # Ctrl-C must not lose the old folder either
        if aside.exists() and not path.exists():
            aside.rename(path)
        if not aside.exists():
            aside.parent.rmdir()
        raise
