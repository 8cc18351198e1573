"""The manifest: a file in each folder that we write, which names all the files that are ours there.

Whoever writes a file owns its name and notes it here; nothing else in this package knows the names.
A manifest may come from a stranger, and what it names may be removed by `--overwrite`. So an entry is
one plain file name, or a long beginning of one and `*`, and never a hidden file or a way out of the
folder.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import stat
from collections.abc import Iterable
from pathlib import Path

MANIFEST = "manifest.json"
_LARGEST = 64 * 1024  # bytes; a hundred times what a folder of ours needs
_SHORTEST_PREFIX = 8  # characters: `IMG*` must not claim a person's photographs
_LONGEST_NAME = 255  # characters, of the usual file systems
LINK = "link"  # what stands behind the temporary name of a second link
_TEMPORARY = re.compile(rf"\.(.+)\.([a-z0-9_]{{8}}|{LINK})", re.DOTALL)  # the eight are mkstemp's


class ManifestError(ValueError):
    """A manifest is not one of ours, or an entry must not stand in one; the words say why."""


def check_entry(entry: object) -> str:
    """Makes sure that an entry names files of one folder, and few of them.

    Args:
        entry: A file name, or the beginning of one and `*`.

    Returns:
        The entry.

    Raises:
        ManifestError: If it is anything else.
    """
    shown = repr(entry)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    if not isinstance(entry, str):
        raise ManifestError(f"{shown} is no text")
    name = entry.removesuffix("*")
    if name != entry and len(name) < _SHORTEST_PREFIX:
        raise ManifestError(
            f"before the * of {shown} must stand at least {_SHORTEST_PREFIX} characters"
        )
    plain = 0 < len(name) <= _LONGEST_NAME and name.isprintable() and not set(name) & set("/\\*?[")
    if not plain or name.startswith("."):
        raise ManifestError(f"{shown} is no plain file name")
    return entry


def manifest_bytes(entries: Iterable[str]) -> bytes:
    """The content of a manifest; the manifest itself is among its entries.

    Args:
        entries: File names, or beginnings of some and `*`.

    Returns:
        JSON; equal entries give equal bytes.

    Raises:
        ManifestError: If an entry is no plain file name, or they are too many.
    """
    files = sorted({MANIFEST, *map(check_entry, entries)})
    written = {"seclcompress": importlib.metadata.version("seclcompress"), "files": files}
    content = (json.dumps(written, indent=2, ensure_ascii=False) + "\n").encode()
    if len(content) > _LARGEST:
        raise ManifestError(f"a manifest of {len(content):,} bytes; it may have {_LARGEST:,}")
    return content


def read_manifest(folder: Path) -> frozenset[str] | None:
    """The entries of a folder's manifest.

    Args:
        folder: A folder that there is.

    Returns:
        The entries, the manifest itself among them; None if the folder has no manifest.

    Raises:
        ManifestError: If it was not written by this program, is damaged, or names what it must not.
            The message goes on from "its manifest.json".
        OSError: If it cannot be read.
    """
    try:
        about = (folder / MANIFEST).lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(
        about.st_mode
    ):  # a link leads elsewhere; reading a pipe would wait for ever
        raise ManifestError("is no file")
    if about.st_size > _LARGEST:
        raise ManifestError(
            f"has {about.st_size:,} bytes; one of seclcompress at most {_LARGEST:,}"
        )
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        version, entries = content["seclcompress"], content["files"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError("was not written by seclcompress, or is damaged") from error
    if not isinstance(version, str) or not isinstance(entries, list):
        raise ManifestError("was not written by seclcompress, or is damaged")
    try:
        return frozenset(map(check_entry, entries)) | {MANIFEST}
    except ManifestError as error:
        raise ManifestError(f"is not to be trusted: {error}") from error


def is_named(file: Path, entries: frozenset[str]) -> bool:
    """Whether a file is one that entries name, or the temporary file of one that was being written.

    Args:
        file: What lies in a folder. We write no folders into folders, so no entry names one.
        entries: Of that folder's manifest.
    """
    if file.is_dir() and not file.is_symlink():
        return False
    temporary = _TEMPORARY.fullmatch(file.name)
    if temporary is not None and temporary[1] in entries | {MANIFEST}:
        return True
    prefixes = tuple(entry[:-1] for entry in entries if entry.endswith("*"))
    return file.name in entries or file.name.startswith(prefixes)
