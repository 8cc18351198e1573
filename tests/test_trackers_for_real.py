"""A run in two pieces, written for the real MLflow and wandb, where they are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs import Listening

from seclcompress.settings.training import TrainingSettings
from seclcompress.workflows.training import TrainingResult, train


def in_two_pieces(folder: Path, track: str) -> TrainingResult:
    settings = TrainingSettings(epochs=2, train_images=100, batch_size=25, track=(track,))
    given: dict[str, Any] = {"data": "digits", "output_dir": folder, "settings": settings}
    with pytest.raises(KeyboardInterrupt):
        train("wrn10_1", observer=Listening(stop_after=6), **given)
    observer = Listening()
    result = train("wrn10_1", resume=True, observer=observer, **given)
    assert not [words for words in observer.words if "failed" in words]
    return result


@pytest.mark.slow
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = in_two_pieces(tmp_path / "out", "mlflow")
    from mlflow.tracking import MlflowClient

    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "out"]
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path.as_posix()}/mlflow.db")
    experiment = client.get_experiment_by_name("seclcompress")
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("out", "FINISHED")
    assert run.data.params["batch_size"] == "25"
    assert run.data.metrics["final/accuracy"] == pytest.approx(result.metrics["accuracy"])
    steps = [one.step for one in client.get_metric_history(run.info.run_id, "loss/step")]
    assert steps == list(range(1, 9))
    losses = client.get_metric_history(run.info.run_id, "loss/train")
    assert [one.value for one in losses] == pytest.approx(
        [record["train_loss"] for record in result.history]
    )


@pytest.mark.slow
def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    in_two_pieces(tmp_path / "out", "wandb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "wandb"]
    runs = [path.name for path in (tmp_path / "wandb").glob("offline-run-*/*.wandb")]
    assert len(runs) == 2
    assert len(set(runs)) == 1  # one id: one run for wandb sync
