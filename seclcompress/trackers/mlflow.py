"""Writes a run for MLflow: into a SQLite file beside the output, or where MLFLOW_TRACKING_URI says.

MLflow's own usage statistics are switched off, unless MLFLOW_DISABLE_TELEMETRY is set by the person.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seclcompress.trackers.contract import STEP_LOSS, STEP_LR, Ending, Reading, Run, Started

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

STORE, FILES, EXPERIMENT = "mlflow.db", "mlflow-files", "seclcompress"
MODULES = (
    "mlflow",
    "sqlalchemy",
    "alembic",
)  # the last two for SQLite, which mlflow-skinny leaves out
_STATUS: Mapping[Ending, str] = {
    "finished": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
_MOST_PARAMS, _LONGEST = 100, 6000  # of MLflow: parameters in a call, characters of one


class MLflow:
    """Writes a run through MLflow's client, so that no run of the person's own is disturbed."""

    _client: MlflowClient
    _run: str

    def start(self, run: Run) -> Started:
        """Makes the run, and the experiment where it is missing; or goes on with the earlier run."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # A server that does not answer is given up after seconds; MLflow would try for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        for noisy in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        chosen = os.environ.get("MLFLOW_TRACKING_URI")
        beside = run.beside.absolute()
        if not chosen and set("?#%") & set(str(beside)):
            raise ValueError(f"SQLite's address cannot have ?, # or % in it: {beside}")
        store = chosen or f"sqlite:///{(beside / STORE).as_posix()}"
        self._client = MlflowClient(tracking_uri=store)
        words = f"MLflow: run {run.name} in {chosen or beside / STORE}."
        if run.earlier is not None:
            try:
                self._client.update_run(run.earlier, status="RUNNING")
            except MlflowException:  # the store was removed meanwhile
                words += " The interrupted run is not there any more: this is a new one."
            else:
                self._run = run.earlier
                return Started(self._run, words)
        experiment = self._experiment(None if chosen else (beside / FILES).as_uri())
        self._run = self._client.create_run(experiment, run_name=run.name).info.run_id
        params = [Param(name, str(value)[:_LONGEST]) for name, value in run.settings.items()]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._run, params=params[first : first + _MOST_PARAMS])
        return Started(self._run, words)

    def _experiment(self, files: str | None) -> str:
        """The experiment's id. Its place for files is named, though none are written."""
        from mlflow.exceptions import MlflowException

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=files))
            except MlflowException:  # another run may have made it just now
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def steps(self, readings: Sequence[Reading]) -> None:
        """Writes the loss and the learning rate of each step."""
        figures = [
            (name, value, reading.time, reading.number)
            for reading in readings
            for name, value in ((STEP_LOSS, reading.loss), (STEP_LR, reading.lr))
        ]
        self._write(figures)

    def epoch(self, epoch: int, step: int, figures: Mapping[str, float]) -> None:
        """Writes the figures of an epoch, over the epochs."""
        del step
        now = time.time()
        self._write([(name, value, now, epoch) for name, value in figures.items()])

    def end(self, ending: Ending, metrics: Mapping[str, float]) -> None:
        """Writes the result under `final/`, and how the run ended."""
        now = time.time()
        self._write([(f"final/{name}", float(value), now, 0) for name, value in metrics.items()])
        self._client.set_terminated(self._run, _STATUS[ending])

    def _write(self, figures: Sequence[tuple[str, float, float, int]]) -> None:
        """Writes figures: name, value, time in seconds, step."""
        from mlflow.entities import Metric

        made: list[Any] = [
            Metric(name, value, int(1000 * when), step) for name, value, when, step in figures
        ]
        if made:
            self._client.log_batch(self._run, metrics=made)
