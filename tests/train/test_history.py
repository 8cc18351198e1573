"""The history of a run is read as it was written; damaged files are in test_cli_report.py."""

from __future__ import annotations

from pathlib import Path

from runs import digits, trainer

from seclcompress.data import load_data
from seclcompress.train import read_history

OLDER = Path(__file__).parents[1] / "written_by_0_1" / "distilled"


def test_what_a_run_writes_can_be_read(tmp_path: Path) -> None:
    run = trainer(tmp_path, digits(), epochs=2)
    run.run(None)
    read = read_history(tmp_path)
    assert [(e.epoch, e.train_loss, e.accuracy) for e in read] == [
        (line["epoch"], line["train_loss"], line["accuracy"]) for line in run.history
    ]


def test_what_a_run_with_held_out_images_writes_can_be_read(tmp_path: Path) -> None:
    data = load_data("digits", (3, 8, 8), train_images=200, validation=0.1)
    run = trainer(tmp_path, data, epochs=3, lr=0.5)
    run.run()
    for epoch, line in zip(read_history(tmp_path), run.history, strict=True):
        assert epoch.chosen_by == line["validation_accuracy"]
        assert epoch.validation_loss == line["validation_loss"]
        assert (epoch.accuracy, epoch.test_loss) == (line.get("accuracy"), line.get("test_loss"))
    assert read_history(tmp_path)[-1].accuracy is not None


def test_older_and_none() -> None:
    assert [epoch.epoch for epoch in read_history(OLDER)] == list(
        range(1, 1 + len(read_history(OLDER)))
    )
    assert len(read_history(OLDER)) > 0
    assert read_history(OLDER.parent / "converted") == []
