"""The history of a finished run, read from its folder without trust."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from seclcompress.artefact import check_inside
from seclcompress.errors import ArtefactError, describe_validation_error
from seclcompress.train.record import METRICS

# A line has 250 bytes. A stranger's file must not take minutes to read.
_LARGEST, _MOST_EPOCHS = 8 * 2**20, 20_000


class Epoch(BaseModel):
    """What is read of an epoch's line in metrics.jsonl.

    Attributes:
        epoch: The number of the epoch, from 1.
        train_loss: The mean loss over the training images; with a teacher, of all losses together.
        test_loss: The mean cross-entropy over the test images; None if they were not looked at.
        accuracy: Top-1 accuracy on the test images in percent; None likewise.
        seconds: Seconds that the epoch took, with its test.
        validation_loss: The mean cross-entropy over the validation images; None if none were held out.
        validation_accuracy: Top-1 accuracy on the validation images in percent; None likewise.
    """

    model_config = ConfigDict(frozen=True)

    epoch: int = Field(ge=1, le=10**9)
    train_loss: float  # of a run that went astray it is NaN
    test_loss: float | None = None
    accuracy: float | None = Field(default=None, ge=0, le=100)
    seconds: float = Field(default=0, ge=0, allow_inf_nan=False)
    validation_loss: float | None = None
    validation_accuracy: float | None = Field(default=None, ge=0, le=100)

    @model_validator(mode="after")
    def _judged(self) -> Epoch:
        if self.accuracy is None and self.validation_accuracy is None:
            raise ValueError("there is neither accuracy nor validation_accuracy")
        return self

    @property
    def chosen_by(self) -> float:
        """The accuracy by which the best epoch is chosen, as in `record.chosen_by`."""
        held_out = self.validation_accuracy
        judged = self.accuracy if held_out is None else held_out
        assert judged is not None
        return judged


def read_history(folder: Path) -> list[Epoch]:
    """Reads the metrics of a training run.

    Args:
        folder: The folder that the run wrote.

    Returns:
        One entry for each epoch; none if the folder has no metrics.

    Raises:
        ArtefactError: If the file leads out of the folder, is too large, or is damaged.
    """
    path = folder / METRICS
    if not path.is_file():
        return []
    check_inside(path, folder)
    try:
        size = path.stat().st_size
        lines = path.read_bytes().splitlines() if size <= _LARGEST else []
    except OSError as error:
        raise ArtefactError(f"Cannot read {path}: {error.strerror}.") from error
    if size > _LARGEST or len(lines) > _MOST_EPOCHS:
        raise ArtefactError(
            f"{path} has {size:,} bytes; at most {_LARGEST:,} and {_MOST_EPOCHS:,} epochs are read. "
            "Move it away to go on without it."
        )
    epochs = []
    for number, line in enumerate(lines, start=1):
        try:
            epochs.append(Epoch.model_validate_json(line))
        except ValidationError as error:
            raise ArtefactError(
                f"{path} is damaged or was not written by seclcompress: line {number}: "
                f"{describe_validation_error(error)}. Move it away to go on without it."
            ) from error
    return epochs
