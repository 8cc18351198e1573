"""The folder that a run writes, and the one that it works in until then."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seclcompress.errors import ArtefactError
from seclcompress.files import check_free, remove_ours


@dataclass(frozen=True)
class Output:
    """Where the result of a run goes.

    Attributes:
        folder: Appears whole, at the end.
        resume: Whether an interrupted run into it goes on.
        overwrite: Whether an earlier folder of ours, or an interrupted run, may be given up for it.
    """

    folder: Path
    resume: bool = False
    overwrite: bool = False

    @property
    def partial(self) -> Path:
        """Where a run keeps its checkpoint until the folder can be written whole."""
        unnamed = self.folder.name in ("", "..")
        whole = self.folder.absolute() if unnamed else self.folder
        return whole.with_name(whole.name + ".partial")

    def check(self) -> None:
        """Makes sure, before the work, that its result may be written and no earlier run is lost.

        Raises:
            ArtefactError: If something is in the way.
        """
        check_free(self.folder, self.overwrite)
        if not self.resume and self.partial.exists():
            if not self.overwrite:
                raise ArtefactError(
                    f"An interrupted run into {self.folder} is in {self.partial}. Go on with it by "
                    "--resume, or give it up with --overwrite."
                )
            check_free(self.partial, self.overwrite)

    def give_up_earlier(self) -> None:
        """Removes what an interrupted run has left, unless this one goes on with it."""
        if not self.resume and self.partial.exists():
            check_free(self.partial, self.overwrite)
            remove_ours(self.partial)
