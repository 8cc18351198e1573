"""The display on a terminal while images are decoded and a network is trained."""

from __future__ import annotations

import io
import sys

from rich.console import Console

from seclcompress.cli.progress import DrawingImages, TrainingProgress

RECORD = {"epoch": 1, "train_loss": 2.0, "test_loss": 1.5, "accuracy": 40.0, "seconds": 3.0}


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=100, color_system=None), file


def test_a_run_on_a_terminal_and_elsewhere() -> None:
    for terminal in (True, False):
        to, file = console(terminal)
        with TrainingProgress(to) as progress:
            progress.message("[bold] is no markup")
            progress.start(2, 2, 1)
            progress.before({"teacher": 90.0, "before": 10.0})
            progress.step(1, 50, 1.25, 0.1)
            progress.epoch(RECORD)
            progress.step(2, 50, 1.0, 0.1)
            progress.step(2, 50, 1.0, 0.1)
            progress.epoch({**RECORD, "epoch": 2})
            progress.message("after the last epoch there is no bar")
        words = file.getvalue()
        assert "[bold] is no markup" in words
        assert "Before the first step: teacher 90.00 %, student before 10.00 %" in words
        line = "epoch 1/2  train loss 2.0000  test loss 1.5000  test accuracy 40.00 %  3.0 s"
        assert line in words
        assert words.endswith("after the last epoch there is no bar\n")
        assert ("images/s" in words) == terminal


def test_epochs_that_validation_images_judge() -> None:
    """The last epoch's line has test figures as well; what is shown is what judges."""
    to, file = console(terminal=False)
    with TrainingProgress(to) as progress:
        progress.start(1, 1, 0)
        progress.epoch({**RECORD, "validation_loss": 1.25, "validation_accuracy": 45.0})
    shown = "train loss 2.0000  validation loss 1.2500  validation accuracy 45.00 %  3.0 s"
    assert shown in file.getvalue()
    assert "40.00" not in file.getvalue()


def test_several_runs_one_after_the_other() -> None:
    """As in `tune`, whose table goes to standard output afterwards; the bars do not pile up."""
    to, file = console(terminal=True)
    before = sys.stdout
    with TrainingProgress(to) as progress:
        for number in range(3):
            with progress.working("Opening …"):
                pass
            progress.decoding("digits", 0, 9)
            progress.decoding("digits", 9, 9)
            progress.start(2, 2, 0)
            progress.step(1, 50, 1.25, 0.1)
            progress.message(f"trial {number}")
            progress.decoding("digits", 0, 9)  # in the middle of a run
            progress.decoding("digits", 9, 9)
    assert sys.stdout is before
    assert "trial 2" in file.getvalue()
    assert len(progress._bar.tasks) == 1


def test_decoding() -> None:
    for terminal in (True, False):
        to, file = console(terminal)
        drawing = DrawingImages(to)
        with drawing.working("Opening [x] …"):
            pass
        drawing.decoding("[x]", 1000, 2000)
        drawing.decoding("[x]", 2000, 2000)
        assert ("Decoding [x]: 2,000 of 2,000 images" in file.getvalue()) == terminal
        assert ("Opening [x] …" in file.getvalue()) == terminal
