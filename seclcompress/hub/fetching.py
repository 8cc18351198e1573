"""Files of a repository, in the cache of huggingface_hub on this machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seclcompress import extras
from seclcompress.downloads import progress_is_shown
from seclcompress.errors import HubError
from seclcompress.hub.reference import Reference
from seclcompress.hub.refusals import refusal


def need_hub(task: str) -> None:
    """Checks that huggingface_hub is installed.

    Args:
        task: What needs it, as a person names it.

    Raises:
        UsageError: If it is not installed.
    """
    extras.need(task, "hub", "huggingface_hub")


def library() -> dict[str, Any]:
    """What this program says of itself to the Hub."""
    name = "seclcompress"
    return {"library_name": name, "library_version": importlib.metadata.version(name)}


def fetch(
    reference: Reference,
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    largest: Mapping[str, int] | None = None,
    download: bool = False,
) -> Path:
    """Finds files of a repository in the cache, or downloads them if that is allowed.

    All files are of one commit. With `download` the Hub is asked what the revision is now; without it,
    or if the revision is a commit that is in the cache, there is no connection.

    Args:
        reference: The repository.
        required: Files that it must have.
        optional: Files that are taken where it has them.
        largest: How many bytes some of the files may have; others are not downloaded.
        download: Whether files may be downloaded.

    Returns:
        The folder of the commit in the cache. It is named by the commit, and may hold other files too.

    Raises:
        UsageError: If huggingface_hub is not installed.
        HubError: If the files are not in the cache and may not be, or cannot be, downloaded.
    """
    need_hub(str(reference))
    cached = _cached(reference, required)
    if cached is not None and (not download or reference.commit is not None):
        return cached
    if not download:
        raise HubError(
            f"{reference} is not on this machine. Allow the download with --download. (What was "
            "downloaded of a branch is found under the same name of the branch.)"
        )
    what = f"Cannot download {reference}"
    from huggingface_hub import HfApi, snapshot_download

    with _asked_for():
        try:
            info = HfApi(**library()).model_info(
                reference.repository, revision=reference.revision, files_metadata=True
            )
        except Exception as error:  # of huggingface_hub or of the HTTP client that it uses
            raise refusal(error, what, reference) from error
        sizes = {file.rfilename: file.size for file in info.siblings or ()}
        _check_files(reference, sizes, required, largest or {})
        try:
            folder = snapshot_download(
                reference.repository,
                revision=reference.revision,
                allow_patterns=[*required, *optional],
                **library(),
            )
        except Exception as error:
            raise refusal(error, what, reference) from error
    return Path(folder)


def content_of(folder: Path) -> list[Path]:
    """The folder to which the files of a commit in the cache are links; none for any other folder."""
    commit = folder.resolve()
    if commit.parent.name != "snapshots" or not commit.parents[1].name.startswith("models--"):
        return []
    return [commit.parents[1] / "blobs"]


def _cached(reference: Reference, required: Sequence[str]) -> Path | None:
    """The folder of a revision in the cache, if the files are there."""
    from huggingface_hub import try_to_load_from_cache

    found = [
        try_to_load_from_cache(reference.repository, name, revision=reference.revision)
        for name in required
    ]
    paths = [Path(path) for path in found if isinstance(path, str)]
    return paths[0].parent if len(paths) == len(required) else None


def _check_files(
    reference: Reference,
    sizes: Mapping[str, int | None],
    required: Sequence[str],
    largest: Mapping[str, int],
) -> None:
    absent = [name for name in required if name not in sizes]
    if absent:
        raise HubError(
            f"{reference} has no {' and no '.join(absent)}, so it is not a folder of seclcompress."
        )
    for name, limit in largest.items():
        size = sizes.get(name)
        if size is not None and size > limit:
            raise HubError(
                f"{reference}: its {name} has {size:,} bytes, one of seclcompress at most {limit:,}. "
                "It was not downloaded."
            )


def _asked_for() -> contextlib.AbstractContextManager[None]:
    """Leaves huggingface_hub's progress bars on only where a person looks at them."""
    return contextlib.nullcontext() if progress_is_shown() else silent()


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Switches off huggingface_hub's progress bars, which would be drawn through ours."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()
