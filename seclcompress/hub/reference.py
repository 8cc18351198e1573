"""What a person types for a repository of the Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass

from seclcompress.errors import UsageError, short

PREFIX = "hf://"
#: The branch that is meant where none is named.
MAIN = "main"
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
# Branches and tags as git has them, without what could lead out of a cache that is named by them.
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Reference:
    """A repository of the Hub, perhaps at a revision.

    Attributes:
        repository: `OWNER/NAME`.
        revision: A branch, a tag or a commit; None for the branch `main`.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return PREFIX + self.repository + ("" if self.revision is None else f"@{self.revision}")

    @property
    def commit(self) -> str | None:
        """The revision if it is a whole commit, which never changes; else None."""
        named = self.revision
        return named if named is not None and _COMMIT.fullmatch(named) else None

    def at(self, revision: str | None) -> Reference:
        """The same repository at another revision."""
        return parse(PREFIX + self.repository + ("" if revision is None else f"@{revision}"))


def is_reference(typed: object) -> bool:
    """Whether a person means a repository of the Hub; whether it is a possible one, `parse` says."""
    return isinstance(typed, str) and typed.startswith(PREFIX)


def parse(typed: str) -> Reference:
    """Reads `hf://OWNER/NAME[@REVISION]`.

    Raises:
        UsageError: If it is nothing of the kind.
    """
    repository, at, revision = typed.removeprefix(PREFIX).partition("@")
    parts = repository.split("/")
    if not is_reference(typed) or len(parts) != 2 or not all(map(_PART.fullmatch, parts)):
        raise UsageError(
            f"{short(typed, 200)!r} names no repository of the Hugging Face Hub: it is "
            "hf://OWNER/NAME or hf://OWNER/NAME@REVISION, with letters, digits, - _ and . in both names."
        )
    if "--" in repository or ".." in repository or repository.endswith(".git"):
        raise UsageError(
            f"{typed}: the Hub has no repositories with --, .. or a last .git in a name."
        )
    if at and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise UsageError(
            f"{short(typed, 200)!r}: after the @ stands a branch, a tag or a commit, as @main."
        )
    return Reference(repository, revision or None)
