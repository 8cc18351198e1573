"""The folders of a search: where its students lie, whether it may be gone on with, what it ends with."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seclcompress import artefact
from seclcompress.errors import ArtefactError, UsageError
from seclcompress.files import note, remove_ours, write_file
from seclcompress.files.manifest import MANIFEST
from seclcompress.files.system import Taken, claim, is_claimed
from seclcompress.files.write import write_folder
from seclcompress.workflows.locating import typed
from seclcompress.workflows.output import Output

CANDIDATES, _ABOUT = "candidates.csv", "search.json"


def work_of(folder: Path) -> Path:
    """The folder `<output>.search`, which holds all students."""
    return Output(folder).beside(".search")


def named(network: str | Path, weights: str | None) -> str:
    """A network as a search knows it: a folder or a file by its bytes, anything else as it is typed."""
    for path in (weights, Path(network) / artefact.WEIGHTS):
        if path is not None and Path(path).is_file():
            whose = "" if weights is None else f"{network} "
            return f"{whose}the weights {artefact.weights_digest(Path(path))}"
    return f"{typed(network)} {weights}"


@contextlib.contextmanager
def claimed(work: Path) -> Iterator[None]:
    """Keeps other searches from a folder for the duration of a block.

    Raises:
        ArtefactError: If another one is at work there.
    """
    try:
        with claim(work):
            yield
    except Taken:
        raise ArtefactError(
            f"Another search is at work in {work} just now. Wait for its end, stop it, or choose "
            "another place."
        ) from None


def begin(work: Path, about: Mapping[str, Any], overwrite: bool) -> None:
    """Begins a search in a folder, or goes on with one that was begun with the same settings."""
    file = work / _ABOUT
    if overwrite:
        for place in sorted(work.iterdir()):
            if place.is_dir():
                if is_claimed(place):
                    raise ArtefactError(
                        f"Another run is writing to {place} just now. Stop it first."
                    )
                remove_ours(place)
        remove_ours(work, keep_folder=True)
    if file.is_file():
        try:
            earlier = json.loads(file.read_bytes())
        except ValueError as error:
            raise ArtefactError(
                f"{file} is damaged, so that nobody knows what was searched there. Begin anew with "
                "--overwrite."
            ) from error
        different = [name for name in about if earlier.get(name) != about[name]]
        if different:
            raise UsageError(
                f"The search in {work} was begun with another {', '.join(different)}. Give it up with "
                "--overwrite, or choose another -o."
            )
        return
    if any(work.iterdir()):
        raise ArtefactError(f"{work} exists and was not made by a search. Choose another -o.")
    note(work, _ABOUT)
    write_file(file, json.dumps(about, indent=2).encode())


def write_best(folder: Path, best: Path, candidates: str, overwrite: bool) -> None:
    """Writes the best student's files and the candidates."""
    files = {
        path.name: path.read_bytes()
        for path in sorted(best.iterdir())
        if path.is_file() and path.name != MANIFEST
    }
    write_folder(folder, {**files, CANDIDATES: candidates.encode()}, overwrite)
