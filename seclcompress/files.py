"""Writing so that what was there before is never lost and nothing half-written is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from seclcompress.errors import ArtefactError


def check_free(path: Path, overwrite: bool, *, folder: bool = True) -> None:
    """Makes sure that an output may be written, before any work is done for it.

    Args:
        path: A file or folder that is to be written.
        overwrite: Whether something that is there already may be replaced.
        folder: Whether `path` is to be a folder; one is replaced only if this program wrote all that
            is in it.

    Raises:
        ArtefactError: If something is there, or the folder around it cannot be written.
    """
    if path.is_symlink() or path.exists():
        if not overwrite:
            raise ArtefactError(
                f"{path} is there already. Choose another place, or replace it with --overwrite."
            )
        reason = _reason_to_leave(path) if folder else ("it is a folder" if path.is_dir() else None)
        if reason is not None:
            raise ArtefactError(
                f"{path} is not replaced, not even by --overwrite: {reason}. Choose another place."
            )
    parent = path.absolute().parent
    existing = next(folder for folder in (parent, *parent.parents) if folder.exists())
    if not existing.is_dir():
        raise ArtefactError(f"Cannot write {path}: {existing} is a file, not a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ArtefactError(f"Cannot write {path}: no permission to write in {existing}.")


#: All that a saved folder, or a run in progress, ever holds.
OUR_FILES = frozenset(
    "config.json model.safetensors best.safetensors metrics.jsonl curves.png "
    "checkpoint.safetensors checkpoint.previous.safetensors".split()
)
_EVENTS = "events.out.tfevents."  # TensorBoard adds the time and the machine


def _is_ours(name: str) -> bool:
    """Whether a file has one of our names, or the temporary name of one."""
    temporary = any(name.startswith(f".{ours}.") for ours in OUR_FILES)
    return name in OUR_FILES or temporary or name.startswith(_EVENTS)


def remove_ours(folder: Path) -> list[str]:
    """Removes what this program wrote in a folder, and the folder if nothing else is in it.

    Returns:
        The names of what is left, because somebody else put it there.
    """
    for file in list(folder.iterdir()):
        if _is_ours(file.name) and not file.is_dir():
            file.unlink()
    left = sorted(file.name for file in folder.iterdir())
    if not left:
        folder.rmdir()
    return left


def _reason_to_leave(path: Path) -> str | None:
    """Why a folder must not be removed; None for an empty one and for one that is all ours."""
    if path.is_symlink() or not path.is_dir():
        return "it is no folder"
    names = [file.name for file in path.iterdir()]
    strange = sorted(name for name in names if not _is_ours(name))
    if strange:
        return f"it holds what seclcompress did not write ({', '.join(strange[:3])})"
    config = path / "config.json"
    if not config.exists():
        # Our runs in progress have no weights by that name; other programs' folders do.
        return "it has no config.json of seclcompress" if "model.safetensors" in names else None
    try:
        versions = json.loads(config.read_text(encoding="utf-8"))["versions"]
        return None if "seclcompress" in versions else "its config.json is of another program"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "its config.json was not written by seclcompress"


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
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise ArtefactError(f"Cannot write {path}: {error.strerror or error}.") from error


@contextlib.contextmanager
def new_folder(path: Path, overwrite: bool) -> Iterator[Path]:
    """A folder that appears under its name whole, or not at all.

    Args:
        path: The folder's final place.
        overwrite: Whether a folder of ours that is there already may be replaced.

    Yields:
        A temporary folder beside it, to be filled. It is renamed when the block ends well and
        removed when it does not.

    Raises:
        ArtefactError: If the place is taken or the system refuses.
    """
    check_free(path, overwrite)
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        temporary.chmod(0o777 & ~_umask())
        try:
            yield temporary
            for file in temporary.iterdir():
                _sync_file(file)
            _sync_folder(temporary)
            _move_into_place(temporary, path, overwrite)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise ArtefactError(f"Cannot write {path}: {error.strerror or error}.") from error


def _move_into_place(temporary: Path, path: Path, overwrite: bool) -> None:
    check_free(path, overwrite)  # somebody may have been quicker
    if not path.exists():
        temporary.rename(path)
        return
    # A folder that is not empty cannot be replaced in one step everywhere: it steps aside first.
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent)) / path.name
    try:
        path.rename(aside)
        temporary.rename(path)
    except BaseException:  # Ctrl-C too must not lose the old folder
        if aside.exists() and not path.exists():
            aside.rename(path)
        if not aside.exists():
            aside.parent.rmdir()
        raise
    shutil.rmtree(aside.parent, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
