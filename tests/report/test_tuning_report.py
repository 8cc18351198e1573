"""The trials of a study as a table, CSV and pictures."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console

from seclcompress.report.tuning import (
    FAILED,
    FINISHED,
    OPEN,
    STOPPED,
    UNSUITABLE,
    Trial,
    best_of,
    importance_png,
    ranked,
    trials_csv,
    trials_png,
    trials_table,
)

VALUES = {"lr": "0.03162", "batch_size": "64", "factor_decay": "1.234e-06"}
BEST = Trial(3, FINISHED, VALUES, {1: 50.0, 2: 60.0, 3: 91.5}, 0.25, 90.25, 12.3456)
TRIALS = [
    Trial(0, FINISHED, {**VALUES, "lr": "0.1"}, {1: 60.0, 2: 70.0, 3: 91.5}, 0.5, 95.0, 10.0),
    Trial(1, STOPPED, {**VALUES, "batch_size": "128"}, {1: 99.0}, 0.1, 98.0, 3.0),
    Trial(2, UNSUITABLE, {**VALUES, "lr": "1000"}, reason="a loss, of nan"),
    BEST,
    Trial(4, FAILED, VALUES, {1: 10.0}, 2.0, 10.0, 1.0, "its process died 3 times"),
    Trial(5, OPEN, VALUES, {1: 40.0, 2: 41.0}, 1.0, 40.0, 2.0),
]


def printed(trials: list[Trial], width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(trials_table(trials, width))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_best_is_a_finished_one_by_accuracy_then_by_loss() -> None:
    """Neither the accuracy on the test images nor that of a trial that was stopped counts."""
    assert [trial.number for trial in ranked(TRIALS)] == [3, 0, 5, 1, 4, 2]
    assert best_of(TRIALS) is BEST
    assert best_of([trial for trial in TRIALS if trial.state != FINISHED]) is None
    assert best_of([]) is None


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_figure_is_cut_at_any_width(width: int) -> None:
    words = printed(TRIALS, width)
    assert all(len(line.rstrip()) <= width for line in words.splitlines())
    assert "…" not in words
    for text in ("91.50", "99.00", "–", "stopped", "unsuitable", "1.234e-06", "0.03162", "1000"):
        assert text in words.split()
    assert "90.25" not in words  # nobody shall choose by the test images
    if width >= 80:
        first, second = words.splitlines()[:2]
        assert first.split() == "trial state epochs held out % lr batch_size factor_decay".split()
        assert second.split() == "3 finished 3 91.50 0.03162 64 1.234e-06".split()


def test_a_table_has_the_best_ten() -> None:
    many = [replace(BEST, number=number, curve={3: 80.0 + number}) for number in range(15)]
    lines = printed(many, 80).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [str(number) for number in range(14, 4, -1)]
    assert printed([], 80).strip() == ""


def test_csv_has_all_of_them() -> None:
    lines = trials_csv(TRIALS[::-1]).splitlines()
    assert lines[0] == (
        "trial,state,epochs,validation_accuracy,validation_loss,test_accuracy,seconds,"
        "lr,batch_size,factor_decay,reason"
    )
    assert lines[1] == "0,finished,3,91.5,0.5,95.0,10.0,0.1,64,1.234e-06,"
    assert lines[3] == '2,unsuitable,0,,,,0.0,1000,64,1.234e-06,"a loss, of nan"'
    assert lines[4] == "3,finished,3,91.5,0.25,90.25,12.346,0.03162,64,1.234e-06,"
    assert len(lines) == 7


SCALES = {"lr": True, "batch_size": None, "factor_decay": True}


def test_pictures_are_pictures_and_always_the_same() -> None:
    first = trials_png(TRIALS, SCALES)
    image = Image.open(io.BytesIO(first))
    assert (image.format, image.size) == ("PNG", (1008, 768))  # four panels in two rows
    assert len(image.convert("RGB").getcolors(10**6)) > 50
    assert trials_png(TRIALS, SCALES) == first
    assert trials_png(TRIALS[:3], SCALES) != first
    assert trials_png(TRIALS, {**SCALES, "lr": False}) != first
    assert Image.open(io.BytesIO(trials_png([], SCALES))).format == "PNG"
    shares = importance_png({"lr": 0.75, "batch_size": 0.25}, 5)
    assert shares == importance_png({"batch_size": 0.25, "lr": 0.75}, 5)
    assert shares != importance_png({"lr": 0.25, "batch_size": 0.75}, 5)
    assert Image.open(io.BytesIO(importance_png({}, 1))).format == "PNG"
