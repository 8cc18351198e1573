"""Output files of a person's choice, which may lie in a saved folder and are then noted there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from seclcompress import artefact
from seclcompress.errors import ArtefactError
from seclcompress.files import MANIFEST, ManifestError, add_file, check_free, is_ours, write_file
from seclcompress.files.manifest import check_entry
from seclcompress.resolve import Located, is_folder
from seclcompress.workflows.locating import Network, typed


def check_file(path: Path, overwrite: bool, *, replaces: Callable[[Path], bool]) -> None:
    """Checks that a file may be written, before any work is done for it.

    Args:
        path: The file.
        overwrite: Whether an existing file may be replaced.
        replaces: Whether a file that a saved folder names as its own is an earlier output of this kind,
            which may be replaced. Others are needed by the folder.

    Raises:
        ArtefactError: If the path is taken, or the folder around it cannot be written.
    """
    check_free(path, overwrite, folder=False)
    if not _in_saved_folder(path):
        return
    try:
        check_entry(path.name)
    except ManifestError as error:
        raise ArtefactError(f"Cannot write {path} into a saved folder: {error}.") from error
    if path.exists() and is_ours(path) and not replaces(path):
        raise ArtefactError(
            f"{path} is not replaced, not even by --overwrite: it belongs to the saved folder "
            f"{path.parent}. Choose another name."
        )


def check_no_input(output: Path, *networks: Network) -> None:
    """Refuses an output that would replace what it is made from.

    Args:
        output: The folder to write.
        networks: The networks that are read.

    Raises:
        ArtefactError: If one of them is that folder.
    """
    for network in networks:
        folder = network.folder if isinstance(network, Located) else None
        if not isinstance(network, Located) and is_folder(typed(network)):
            folder = Path(network)
        if folder is not None and output.exists() and folder.resolve() == output.resolve():
            raise ArtefactError(
                f"{output} is read by this command, so it is not replaced by its result, not even with "
                "--overwrite. Choose another folder."
            )


def write_one(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; a saved folder around it notes it as one of its own.

    Without the note, the folder could never be replaced, because it would hold what is not its own.

    Args:
        path: The file; an existing one is replaced in one step.
        content: The whole content.

    Raises:
        ArtefactError: If the system refuses; an old file is then still there.
    """
    if _in_saved_folder(path) and (path.parent / MANIFEST).is_file():
        add_file(path.parent, path.name, content)
    else:
        write_file(path, content)


def _in_saved_folder(path: Path) -> bool:
    return artefact.is_artefact(path.parent)
