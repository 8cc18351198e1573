"""Sends files to a repository; what is there is replaced only if that was said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seclcompress.errors import HubError
from seclcompress.hub.fetching import library, need_hub, silent
from seclcompress.hub.reference import MAIN, Reference
from seclcompress.hub.refusals import LOG_IN, refusal
from seclcompress.wording import listed

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class Sent:
    """A commit that was made.

    Attributes:
        url: The address of the commit.
        commit: Its hash.
        created: Whether the repository was made for it.
    """

    url: str
    commit: str
    created: bool


def send(
    reference: Reference,
    files: Mapping[str, Path],
    *,
    message: str,
    create: bool = False,
    private: bool = False,
    overwrite: bool = False,
) -> Sent:
    """Sends files to a repository, in one commit. Other files of the repository stay as they are.

    Args:
        reference: The repository, and the branch to write to.
        files: The files by their names in the repository.
        message: The commit's message.
        create: Whether a missing repository, or a missing branch, may be made.
        private: Whether the repository must be private; a new one is made so.
        overwrite: Whether files of these names that are there may be replaced.

    Raises:
        UsageError: If huggingface_hub is not installed.
        HubError: If there is no token, the repository is missing or public against what was said, files
            are there already, or the Hub refuses or cannot be reached.
    """
    need_hub("upload")
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    what = f"Cannot upload to {reference}"
    if get_token() is None:
        raise HubError(f"{what}: you are not logged in. Please {LOG_IN}.")
    api = HfApi(**library())
    with silent():
        info, created = _opened(api, reference, what, create=create, private=private)
        if private and not info.private:
            raise HubError(
                f"{what}: it is public, and --private was said. Make it private in its settings on the "
                "Hub, or choose another one."
            )
        there = {file.rfilename for file in info.siblings or ()} & files.keys()
        if there and not overwrite:
            raise HubError(
                f"{what}: {listed(there)} {'is' if len(there) == 1 else 'are'} there already. Choose "
                "another repository or branch, or replace what is there with --overwrite."
            )
        operations = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        try:
            commit = api.create_commit(
                reference.repository,
                operations,
                commit_message=message,
                revision=reference.revision,
                parent_commit=info.sha,  # what somebody else sends in the meantime is not replaced
            )
        except Exception as error:  # of huggingface_hub or of the HTTP client that it uses
            made = " (the repository was made, and is empty)" if created else ""
            raise refusal(error, what + made, reference) from error
    return Sent(commit.commit_url, commit.oid, created)


def _opened(
    api: HfApi, reference: Reference, what: str, *, create: bool, private: bool
) -> tuple[Any, bool]:
    """What the Hub says of the branch, which is made if it is missing; whether the repository was."""
    from huggingface_hub import errors

    repository, branch = reference.repository, reference.revision or MAIN
    created = False
    try:
        try:
            return api.model_info(repository, revision=branch), created
        except errors.GatedRepoError:
            raise
        except errors.RepositoryNotFoundError as error:
            if not create:
                raise HubError(
                    f"{what}: there is no such repository, or you may not see it. --create makes it."
                ) from error
            api.create_repo(repository, private=private or None)  # else as its owner has it
            created = True
        except errors.RevisionNotFoundError as error:
            if not create:
                raise HubError(
                    f"{what}: the repository has no branch {branch}. --create makes it."
                ) from error
        if branch != MAIN:
            api.create_branch(repository, branch=branch)
        return api.model_info(repository, revision=branch), created
    except HubError:
        raise
    except Exception as error:
        raise refusal(error, what, reference) from error
