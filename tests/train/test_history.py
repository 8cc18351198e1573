"""The history of a run is read as it was written; damaged files are in test_cli_report.py."""

from __future__ import annotations

from pathlib import Path

from runs import digits, trainer

from seclcompress.train import read_history

OLDER = Path(__file__).parents[1] / "written_by_0_1" / "distilled"


def test_what_a_run_writes_can_be_read(tmp_path: Path) -> None:
    run = trainer(tmp_path, digits(), epochs=2)
    run.run(None)
    read = read_history(tmp_path)
    assert [(e.epoch, e.train_loss, e.accuracy) for e in read] == [
        (line["epoch"], line["train_loss"], line["accuracy"]) for line in run.history
    ]


def test_older_and_none() -> None:
    assert [epoch.epoch for epoch in read_history(OLDER)] == list(
        range(1, 1 + len(read_history(OLDER)))
    )
    assert len(read_history(OLDER)) > 0
    assert read_history(OLDER.parent / "converted") == []
