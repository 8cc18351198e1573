"""The output folder of a run, and the folder for its files while it is in progress."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seclcompress.errors import ArtefactError, UsageError
from seclcompress.files import check_free, remove_ours
from seclcompress.files.system import Taken, claim, is_claimed
from seclcompress.train import METRICS


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
        return self.beside(".partial")

    def beside(self, ending: str) -> Path:
        """The folder beside the output whose name has an ending more."""
        unnamed = self.folder.name in ("", "..")
        whole = self.folder.absolute() if unnamed else self.folder
        return whole.with_name(whole.name + ending)

    def check(self) -> None:
        """Checks, before any work, that the result may be written and no earlier run would be lost.

        Raises:
            UsageError: If the run to resume is finished.
            ArtefactError: If the output folder is taken, or it has an interrupted run.
        """
        if self.resume and not self.overwrite and (self.folder / METRICS).is_file():
            raise UsageError(
                f"The run into {self.folder} is finished, so there is nothing for --resume to go on "
                f"with. Its network is in {self.folder}: look at it by evaluate or report. To train "
                "anew, drop --resume and choose another -o, or replace the folder with --overwrite."
            )
        check_free(self.folder, self.overwrite)
        if is_claimed(self.partial):
            raise self._taken()
        if not self.resume and self._has_run():
            if not self.overwrite:
                raise ArtefactError(
                    f"An interrupted run into {self.folder} is in {self.partial}. Go on with it by "
                    "--resume, or give it up with --overwrite."
                )
            check_free(self.partial, self.overwrite)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other runs from this output for the duration of a block; nothing is removed.

        Raises:
            ArtefactError: If a living run writes there, or has written there since `check`.
        """
        try:
            with claim(self.partial):
                check_free(self.folder, self.overwrite)
                yield
        except Taken:
            raise self._taken() from None
        except OSError as error:
            if error.filename is None or Path(error.filename) != self.partial:
                raise
            raise ArtefactError(f"Cannot write {self.partial}: {error.strerror}.") from error

    def give_up_earlier(self) -> None:
        """Removes the files of an interrupted run, unless this run resumes it."""
        if not self.resume and self._has_run():
            check_free(self.partial, self.overwrite)
            remove_ours(self.partial, keep_folder=True)

    def _has_run(self) -> bool:
        """Whether there are files of an interrupted run."""
        return self.partial.is_symlink() or (
            self.partial.exists() and (not self.partial.is_dir() or any(self.partial.iterdir()))
        )

    def _taken(self) -> ArtefactError:
        return ArtefactError(
            f"Another run is writing to {self.folder} just now (in {self.partial}). Wait for its end, "
            "stop it, or choose another place."
        )
