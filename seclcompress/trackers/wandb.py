"""Writes a run for Weights & Biases: into files beside the output, or where WANDB_MODE says.

Without WANDB_MODE nothing is sent, also where the person is logged in; `wandb sync` sends such a run
later. wandb's reports of its own errors are switched off, unless WANDB_ERROR_REPORTING is set.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from seclcompress.trackers.contract import (
    FIGURES,
    STEP_LOSS,
    STEP_LR,
    Ending,
    Reading,
    Run,
    Started,
)

PROJECT, OFFLINE = "seclcompress", "offline"
MODULES = ("wandb",)
_EXIT_CODE: Mapping[Ending, int] = {"finished": 0, "interrupted": 130, "failed": 1}


class Wandb:
    """Writes a run beside any that the person has open."""

    _run: Any

    def start(self, run: Run) -> Started:
        """Opens the run; a resumed one has the same id, which `wandb sync` puts together."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        # wandb itself checks what a person wrote there; its type names the words.
        mode: Any = os.environ.get("WANDB_MODE") or OFFLINE
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=run.name,
            id=run.earlier or secrets.token_hex(4),
            resume="allow",
            reinit="create_new",
            dir=os.environ.get("WANDB_DIR") or str(run.beside),
            mode=mode,
            config=dict(run.settings),
            # What is printed, the code around and its repository are the person's, not the run's.
            settings=wandb.Settings(
                console="off", disable_git=True, disable_code=True, silent=True
            ),
        )
        self._run.define_metric("epoch")
        for name in FIGURES.values():
            self._run.define_metric(name, step_metric="epoch")
        sent = "nothing is sent; wandb sync sends it" if mode == OFFLINE else f"WANDB_MODE={mode}"
        place = os.path.dirname(str(self._run.dir))  # noqa: PTH120 (its parent, in wandb's spelling)
        return Started(str(self._run.id), f"Weights & Biases: run {run.name} in {place} ({sent}).")

    def steps(self, readings: Sequence[Reading]) -> None:
        """Writes the loss and the learning rate of each step."""
        for reading in readings:
            self._run.log({STEP_LOSS: reading.loss, STEP_LR: reading.lr}, step=reading.number)

    def epoch(self, epoch: int, step: int, figures: Mapping[str, float]) -> None:
        """Writes the figures of an epoch, over the epochs."""
        self._run.log({**figures, "epoch": epoch}, step=step)

    def end(self, ending: Ending, metrics: Mapping[str, float]) -> None:
        """Writes the result into the summary, and how the run ended."""
        self._run.summary.update({f"final/{name}": value for name, value in metrics.items()})
        self._run.finish(exit_code=_EXIT_CODE[ending])
