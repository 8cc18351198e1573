"""Whether a study may be made in a folder, or be gone on with."""

from __future__ import annotations

import contextlib
from pathlib import Path

from seclcompress.errors import ArtefactError
from seclcompress.files import ManifestError, check_free, remove_ours
from seclcompress.files.manifest import read_manifest
from seclcompress.workflows.storage import STORAGE
from seclcompress.workflows.studies import claim_of, living
from seclcompress.workflows.trials import begun, remove_run


def make_way(folder: Path, overwrite: bool) -> None:
    """Checks that a study may be made in a folder, or be gone on with; gives an earlier one up."""
    there = folder.is_dir() and _is_study(folder)
    if there and not overwrite:
        return
    busy = living(folder) if there else []
    if busy:
        raise ArtefactError(
            f"Another process is at trial {busy[0]} of the study in {folder}. Stop it first."
        )
    check_free(folder, overwrite)
    if folder.exists():
        remove_ours(folder)
    for number in begun(folder):
        remove_run(folder, number)
        with contextlib.suppress(OSError):  # a killed process has left it
            claim_of(folder, number).rmdir()


def _is_study(folder: Path) -> bool:
    with contextlib.suppress(ManifestError, OSError):
        return f"{STORAGE}*" in (read_manifest(folder) or ())
    return False
