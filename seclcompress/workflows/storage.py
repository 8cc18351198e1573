"""Optuna, which is optional, and its storage: one SQLite file in the folder of a study."""

from __future__ import annotations

import contextlib
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seclcompress import extras
from seclcompress.errors import ArtefactError

if TYPE_CHECKING:
    import optuna

STORAGE = "study.sqlite"
_NAME = "seclcompress"
_SECONDS_FOR_A_LOCK = 60.0


def import_optuna() -> Any:
    """Imports Optuna.

    Raises:
        UsageError: If it is not installed, or what a study needs beside it: Optuna's fANOVA is computed
            by scikit-learn, and the pictures are drawn by matplotlib.
    """
    extras.need("tune", "tune", "optuna", "sklearn", "matplotlib")
    import optuna

    return optuna


@contextlib.contextmanager
def quietly(optuna: Any, folder: Path) -> Iterator[None]:
    """Keeps Optuna from writing to stderr, and puts the errors of its storage in words.

    Args:
        optuna: The module.
        folder: The folder of the study.

    Raises:
        ArtefactError: If the storage cannot be used.
    """
    from sqlalchemy.exc import SQLAlchemyError

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
        cause = error.__cause__ or error
        raise ArtefactError(
            f"The study in {folder / STORAGE} cannot be used: {str(cause).splitlines()[0]}. Move it "
            "away, or start anew with --overwrite."
        ) from error
    finally:
        optuna.logging.set_verbosity(before)


def open_study(optuna: Any, folder: Path, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    """Opens the study in a folder; it is made if it is not there.

    Args:
        optuna: The module.
        folder: The folder of the study.
        pruner: Decides when a trial is stopped.
    """
    from sqlalchemy.pool import NullPool

    path = str((folder / STORAGE).absolute())

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=_SECONDS_FOR_A_LOCK)

    # By a function, as not every path can be written as a URL.
    storage = optuna.storages.RDBStorage("sqlite://", {"creator": connect, "poolclass": NullPool})
    study: optuna.Study = optuna.create_study(
        storage=storage,
        study_name=_NAME,
        direction="maximize",
        load_if_exists=True,
        pruner=pruner,
    )
    return study
