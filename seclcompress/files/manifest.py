"""The manifest: a file in each folder that this program writes, with the names of its files there.

The protocol:

- The module that writes a file defines its name. It notes the name in the manifest before it writes the
  file (`files.note`), or passes both to `write_folder`, which writes the manifest first. So a process
  that is killed never leaves a file that the manifest does not name. No list of names exists elsewhere,
  except for folders of 0.1 (`legacy`).
- `--overwrite` removes a folder only if the manifest names every file in it. Temporary files are
  recognised by their names, which contain the name of the file they stand for (`is_named`).
- The manifest is removed last, so that an interrupted removal can be completed later.

A manifest may come from another person, and the files it names may be removed. So an entry is a plain
file name, or a prefix of at least 8 characters followed by `*`. It is never a hidden file or a path out
of the folder.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import stat
from collections.abc import Iterable
from pathlib import Path

MANIFEST = "manifest.json"
_LARGEST = 64 * 1024  # bytes; a hundred times as many as our folders need
_SHORTEST_PREFIX = 8  # characters: `IMG*` must not claim a person's photographs
_LONGEST_NAME = 255  # characters; the limit of the usual file systems
LINK = "link"  # the suffix of the temporary name of a second hard link
# A temporary file is `.NAME.SUFFIX`; mkstemp makes suffixes of eight characters.
_TEMPORARY = re.compile(rf"\.(.+)\.([a-z0-9_]{{8}}|{LINK})", re.DOTALL)


class ManifestError(ValueError):
    """A manifest was not written by this program, or an entry is not allowed; the message says why."""


def check_entry(entry: object) -> str:
    """Checks that an entry names files of its own folder, and only few of them.

    Args:
        entry: A file name, or a prefix and `*`.

    Returns:
        The entry.

    Raises:
        ManifestError: If the entry is anything else.
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
    """Makes the content of a manifest; the manifest itself is added to its entries.

    Args:
        entries: File names, or prefixes and `*`.

    Returns:
        JSON; equal entries give equal bytes.

    Raises:
        ManifestError: If an entry is not allowed, or the manifest would be too large.
    """
    files = sorted({MANIFEST, *map(check_entry, entries)})
    written = {"seclcompress": importlib.metadata.version("seclcompress"), "files": files}
    content = (json.dumps(written, indent=2, ensure_ascii=False) + "\n").encode()
    if len(content) > _LARGEST:
        raise ManifestError(f"a manifest of {len(content):,} bytes; it may have {_LARGEST:,}")
    return content


def read_manifest(folder: Path) -> frozenset[str] | None:
    """Reads the entries of a folder's manifest.

    Args:
        folder: An existing folder.

    Returns:
        The entries, including the manifest itself; None if the folder has no manifest.

    Raises:
        ManifestError: If the manifest was not written by this program, is damaged, or has an entry that
            is not allowed. The message continues a sentence that begins "its manifest.json".
        OSError: If the manifest cannot be read.
    """
    try:
        about = (folder / MANIFEST).lstat()
    except FileNotFoundError:
        return None
    # A link leads out of the folder, and reading a pipe would block forever.
    if not stat.S_ISREG(about.st_mode):
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
    """Whether entries name a file, or the file that it is a temporary version of.

    Args:
        file: A file or folder in a folder. The result is False for a folder, because this program
            writes no folders into the folders it manages.
        entries: The entries of that folder's manifest.
    """
    if file.is_dir() and not file.is_symlink():
        return False
    temporary = _TEMPORARY.fullmatch(file.name)
    if temporary is not None and temporary[1] in entries | {MANIFEST}:
        return True
    prefixes = tuple(entry[:-1] for entry in entries if entry.endswith("*"))
    return file.name in entries or file.name.startswith(prefixes)
