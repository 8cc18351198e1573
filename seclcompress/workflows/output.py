"""The output folder of a run, and the folder for its files while it is in progress."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seclcompress.errors import ArtefactError
from seclcompress.files import check_free, remove_ours


@dataclass(frozen=True)
class Output:
    """The destination of a run's result.

    Attributes:
        folder: The output folder, which is written as a whole at the end.
        resume: Whether to resume an interrupted run into this folder.
        overwrite: Whether an earlier output folder that this program wrote, or an interrupted run,
            may be replaced.
    """

    folder: Path
    resume: bool = False
    overwrite: bool = False

    @property
    def partial(self) -> Path:
        """The folder `<output>.partial`, which holds the files of a run in progress."""
        unnamed = self.folder.name in ("", "..")
        whole = self.folder.absolute() if unnamed else self.folder
        return whole.with_name(whole.name + ".partial")

    def check(self) -> None:
        """Checks, before any work, that the result may be written and no earlier run would be lost.

        Raises:
            ArtefactError: If the output folder is taken, or it has an interrupted run.
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
        """Removes the files of an interrupted run, unless this run resumes it."""
        if not self.resume and self.partial.exists():
            check_free(self.partial, self.overwrite)
            remove_ours(self.partial)
