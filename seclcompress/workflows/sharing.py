"""Sends a saved folder to a repository of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seclcompress import artefact, hub
from seclcompress.errors import ArtefactError, UsageError, WeightsError
from seclcompress.files import our_files
from seclcompress.networks.weights import stored_values
from seclcompress.observer import Logging, Observer
from seclcompress.wording import listed


@dataclass(frozen=True)
class Uploaded:
    """What was sent, or with a dry run would be.

    Attributes:
        repository: The repository and the branch, as it can be named in the place of a folder.
        files: The sizes in bytes of the files by name.
        url: The address of the commit; None if nothing was sent.
        commit: Its hash; None if nothing was sent.
        created: Whether the repository was made.
    """

    repository: str
    files: Mapping[str, int]
    url: str | None = None
    commit: str | None = None
    created: bool = False


def upload(
    folder: str | Path,
    repository: str,
    *,
    create: bool = False,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    observer: Observer | None = None,
) -> Uploaded:
    """Sends the files that this program wrote in a folder to a repository, in one commit.

    Nothing is made or replaced there unless it was said. The token is the one that huggingface_hub finds
    (`hf auth login`, or HF_TOKEN).

    Args:
        folder: A folder that `convert`, `train` or `distill` wrote.
        repository: `OWNER/NAME`, or `hf://OWNER/NAME[@REVISION]`.
        create: Whether a missing repository, or a missing branch, may be made.
        private: Whether the repository must be private; a new one is made so.
        revision: The branch to write to; None for `main`.
        message: The commit's message; None for one with this program's version.
        overwrite: Whether files of the same names that are there may be replaced.
        dry_run: Whether to only say what would be sent. There is no connection then.
        observer: Receives a line on what stays here, and on what others will see.

    Raises:
        UsageError: If the repository is spelled wrong, or huggingface_hub is not installed.
        ArtefactError: If it is not a folder of this program, or it is damaged.
        HubError: If there is no token, the repository is missing or public against what was said, files
            are there already, or the Hub refuses or cannot be reached.
    """
    observer = observer or Logging()
    if hub.is_reference(folder):
        raise UsageError(f"{folder} is on the Hub already. Name a folder on this machine.")
    folder, reference = Path(folder), _reference(repository, revision)
    config = artefact.read_config(folder)
    paths = _files(folder, observer)
    if artefact.CARD not in paths:
        observer.message(
            f"{folder} has no {artefact.CARD} of seclcompress, so the repository gets no model card."
        )
    data = config.training.get("data")
    if isinstance(data, str) and ":" in data:
        observer.message(
            f"{artefact.CONFIG} says where the images of the training lay: {data}. Others will read it."
        )
    files = {name: path.stat().st_size for name, path in paths.items()}
    if dry_run:
        return Uploaded(str(reference), files)
    version = artefact.library_versions()["seclcompress"]
    with observer.working(f"Uploading {sum(files.values()):,} bytes …"):
        sent = hub.send(
            reference,
            paths,
            message=message or f"Upload a network with seclcompress {version}",
            create=create,
            private=private,
            overwrite=overwrite,
        )
    return Uploaded(str(reference), files, sent.url, sent.commit, sent.created)


def _reference(repository: str, revision: str | None) -> hub.Reference:
    typed = repository if hub.is_reference(repository) else hub.PREFIX + repository
    if typed.count("/") == hub.PREFIX.count("/"):
        raise UsageError(
            f"{repository} names no owner: a repository is OWNER/NAME, as me/{repository}."
        )
    reference = hub.parse(typed)
    if revision is None:
        return reference
    if reference.revision not in (None, revision):
        raise UsageError(
            f"{repository} and --revision {revision} name two revisions. Say only one of them."
        )
    return reference.at(revision)


def _files(folder: Path, observer: Observer) -> dict[str, Path]:
    """The files to send by name; those of others are told and stay here."""
    try:
        ours, others = our_files(folder)
        for path in ours:
            artefact.check_inside(path, folder)
        stored_values(folder / artefact.WEIGHTS)  # reads the head: it is there, and no other file
    except WeightsError as error:
        raise ArtefactError(str(error)) from error
    if others:
        observer.message(
            f"Not sent, as seclcompress did not write it in {folder}: {listed(others)}."
        )
    return {path.name: path for path in ours}
