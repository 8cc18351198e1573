"""Decides whether an output may be written at a path, and which files there belong to this program."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from pathlib import Path

from seclcompress.errors import ArtefactError, short
from seclcompress.files import legacy
from seclcompress.files.manifest import MANIFEST, ManifestError, is_named, read_manifest


def check_free(path: Path, overwrite: bool, *, folder: bool = True) -> None:
    """Checks that an output may be written, before any work is done for it.

    Args:
        path: The file or folder to write.
        overwrite: Whether an existing file or folder may be replaced.
        folder: Whether `path` is to be a folder. An existing folder is replaced only if this program
            wrote everything in it.

    Raises:
        ArtefactError: If the path is taken, or the folder around it cannot be written.
    """
    try:
        _check_free(path, overwrite, folder)
    except OSError as error:
        raise ArtefactError(f"Cannot write {path}: {error.strerror or error}.") from error


def _check_free(path: Path, overwrite: bool, folder: bool) -> None:
    longest = _longest_name(path)
    if len(os.fsencode(path.name)) > longest:
        raise ArtefactError(
            f"Cannot write {short(str(path), 200)}: the name has {len(os.fsencode(path.name))} bytes; "
            f"with what is added while it is written it can have {longest}. Choose a shorter one."
        )
    if path.name == "..":
        raise ArtefactError(f"Cannot write {path}: .. is no name. Say which folder that is.")
    if path.is_symlink() or path.exists():
        if not overwrite:
            raise ArtefactError(
                f"{path} is there already. Choose another place, or replace it with --overwrite."
            )
        reason = reason_to_leave(path) if folder else ("it is a folder" if path.is_dir() else None)
        if reason is not None:
            raise ArtefactError(
                f"{path} is not replaced, not even by --overwrite: {reason}. Choose another place."
            )
    elif folder and not overwrite:
        aside = set_aside(path)
        if aside is not None:
            raise ArtefactError(
                f"{path} was being replaced when a run was stopped; what it was is in {aside}. "
                "Move it back, or give it up with --overwrite."
            )
    parent = path.absolute().parent
    existing = next(folder for folder in (parent, *parent.parents) if folder.exists())
    if not existing.is_dir():
        raise ArtefactError(f"Cannot write {path}: {existing} is a file, not a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ArtefactError(f"Cannot write {path}: no permission to write in {existing}.")


#: Bytes that temporary neighbours add to a name: `.NAME.new.12345678`, of `NAME.partial` as well.
_ADDED = len(".partial") + len("..new.12345678")


def _longest_name(path: Path) -> int:
    """How many bytes a name may have on the file system of a path."""
    limit = 255
    if hasattr(os, "pathconf"):
        for folder in path.absolute().parents:
            with contextlib.suppress(OSError, ValueError):
                limit = os.pathconf(folder, "PC_NAME_MAX")
                break
    return limit - _ADDED


def ours_in(folder: Path) -> frozenset[str]:
    """The entries of a folder's manifest; without a manifest, the names of the files that 0.1 wrote.

    Raises:
        ManifestError: If the manifest was not written by this program.
        OSError: If it cannot be read.
    """
    entries = read_manifest(folder)
    return legacy.LEGACY if entries is None else entries


def our_files(folder: Path) -> tuple[list[Path], list[str]]:
    """The finished files that this program wrote in a folder, and the names of all others, in order.

    Args:
        folder: A folder.

    Raises:
        ArtefactError: If the folder has another program's manifest, or cannot be read.
    """
    try:
        entries = ours_in(folder)
        files = sorted(folder.iterdir())
    except ManifestError as error:
        raise ArtefactError(f"{folder} is not read: its {MANIFEST} {error}.") from error
    except OSError as error:
        raise ArtefactError(f"Cannot read {folder}: {error.strerror or error}.") from error
    ours = [file for file in files if is_named(file, entries) and not file.name.startswith(".")]
    return ours, [file.name for file in files if file not in ours]


def is_ours(file: Path) -> bool:
    """Whether the folder around a file names it as its own; so for each if its manifest is damaged."""
    try:
        return is_named(file, ours_in(file.parent))
    except ManifestError:
        return True


def remove_ours(folder: Path, *, keep_folder: bool = False) -> list[str]:
    """Removes the files that this program wrote in a folder, and the folder if it is then empty.

    The manifest is removed last: if the process dies before that, a later process still knows which of
    the remaining files belong to this program.

    Args:
        folder: The folder.
        keep_folder: Whether the folder itself stays, even if it is empty.

    Returns:
        The names of the files that are left, because this program did not write them.
    """
    with contextlib.suppress(ManifestError):
        entries = ours_in(folder)
        for file in sorted(folder.iterdir(), key=lambda file: file.name == MANIFEST):
            if is_named(file, entries):
                file.unlink()
    left = sorted(file.name for file in folder.iterdir())
    if not left and not keep_folder:
        folder.rmdir()
    return left


def reason_to_leave(path: Path) -> str | None:
    """Says why a folder must not be removed; None if it is empty or this program wrote all of it."""
    if path.is_symlink() or not path.is_dir():
        return "it is no folder"
    try:
        entries = ours_in(path)
    except ManifestError as error:
        return f"its {MANIFEST} {error}"
    strange = sorted(file.name for file in path.iterdir() if not is_named(file, entries))
    if strange:
        return f"it holds what seclcompress did not write ({', '.join(strange[:3])})"
    if MANIFEST not in entries and legacy.weights_of_another_program(path):
        return "it has no config.json of seclcompress"
    return _reason_in_config(path / "config.json")


def _reason_in_config(config: Path) -> str | None:
    """Says why a `config.json` must not be removed; None if it does not exist or is one of ours.

    Other programs save their networks under the same file names, possibly into a folder of ours.
    """
    if not (config.is_symlink() or config.exists()):
        return None
    try:
        if not config.is_file():  # reading a pipe would block forever
            return "its config.json is no file"
        versions = json.loads(config.read_text(encoding="utf-8"))["versions"]
        return None if "seclcompress" in versions else "its config.json is of another program"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "its config.json was not written by seclcompress"


#: Kinds of temporary folders: the new folder while it is written, and the folder that holds the old one
#: while it is replaced in two steps.
NEW, OLD = "new", "old"


def temporary_prefix(path: Path, kind: str) -> str:
    """The prefix of the names of a folder's temporary neighbours, `.NAME.KIND.`."""
    return f".{path.name}.{kind}."


def neighbours(path: Path, kind: str) -> list[Path]:
    """The temporary neighbours of a folder, of one kind; their processes may be alive or dead."""
    pattern = re.compile(re.escape(temporary_prefix(path, kind)) + r"[a-z0-9_]{8}")
    parent = path.absolute().parent
    if not parent.is_dir():
        return []
    return sorted(near for near in parent.iterdir() if pattern.fullmatch(near.name))


def missing_folder(folder: Path) -> str | None:
    """Says in one sentence that a folder is not there; None if it is, or may not be looked for.

    Args:
        folder: The folder that a person named.
    """
    try:
        if stat.S_ISDIR(folder.stat().st_mode):
            return None
        return f"{folder} is a file, not a folder."
    except (
        FileNotFoundError,
        NotADirectoryError,
        ValueError,
    ):  # the last: no file can have the name
        pass
    except OSError:  # no permission, or a name that is too long: reading it says so
        return None
    aside = set_aside(folder)
    if aside is None:
        return f"There is no folder {folder}."
    return (
        f"There is no folder {folder}. It was being replaced when a run was stopped; what it was is in "
        f"{aside}: move it back."
    )


def set_aside(path: Path) -> Path | None:
    """Finds a folder that is missing because its replacement was killed between two renames.

    Args:
        path: The folder's usual place.

    Returns:
        Where the folder is now; None if it is in its usual place or was not set aside.
    """
    try:
        if path.exists():
            return None
        return next(
            (near / path.name for near in neighbours(path, OLD) if (near / path.name).is_dir()),
            None,
        )
    except OSError:
        return None
