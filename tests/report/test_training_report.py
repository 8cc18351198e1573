"""A run's settings and results as tables: nothing is cut off, nothing is left out."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from rich.console import Console

from seclcompress.report.training import curves_png, settings_shown, training_table
from seclcompress.settings.training import TrainingSettings

HISTORY = [
    {"epoch": 1, "train_loss": 2.0, "test_loss": 1.9, "accuracy": 40.0, "seconds": 4000.0},
    {"epoch": 2, "train_loss": 1.0, "test_loss": 1.2, "accuracy": 70.5, "seconds": 3000.0},
    {"epoch": 3, "train_loss": 0.9, "test_loss": 1.3, "accuracy": 70.0, "seconds": 260.0},
]


def printed(table: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_what_differs_from_the_defaults_is_shown_at_any_width(width: int) -> None:
    settings = TrainingSettings(taps=("layer1", "layer2"), lr=0.025, group_lr={"gains": 3}, seed=7)
    words = " ".join(printed(settings_shown(settings, width), width).split())
    for name, value in (("taps", "layer1,layer2"), ("lr", "0.025"), ("group_lr", "gains=3")):
        assert f"{name} {value}" in words
    assert "seed 7" in words
    others = len(TrainingSettings.model_fields) - 4
    assert words.endswith(f"{others} other settings have their defaults (--help).")
    assert "epochs" not in words
    assert "…" not in words


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_setting_is_cut_where_all_differ(width: int) -> None:
    changed = {
        name: {bool: not value, int: 17, float: 0.375}.get(type(value), value)
        for name, value in TrainingSettings()
    }
    settings = TrainingSettings.model_construct(**changed)
    differ = [name for name, value in TrainingSettings() if changed[name] != value]
    words = printed(settings_shown(settings, width), width)
    assert len(differ) > 20
    assert [name for name in differ if name not in words] == []
    assert "…" not in words
    assert max(map(len, words.splitlines())) <= width


def test_settings_that_are_all_defaults() -> None:
    count = len(TrainingSettings.model_fields)
    words = printed(settings_shown(TrainingSettings(), 80), 80)
    assert words == f"Settings: all {count} have their defaults (--help).\n"
    fewer = printed(settings_shown(TrainingSettings(), 80, ("taps", "alpha")), 80)
    assert fewer.startswith(f"Settings: all {count - 2} ")


def test_the_end_of_a_run() -> None:
    words = printed(training_table(HISTORY, {"teacher": 91.0, "before": 10.0}), 80)
    lines = [line.split() for line in words.strip().splitlines()]
    assert lines[0][-2:] == ["91.00", "%"]
    assert lines[1][-2:] == ["10.00", "%"]
    assert lines[2] == ["student", "after", "70.00", "%"]
    assert lines[3][:3] == ["best", "epoch", "(2;"]
    assert lines[3][-2:] == ["70.50", "%"]
    assert lines[4][-4:] == ["2", "h", "01", "min"]
    assert "after" in printed(training_table(HISTORY[:1], {}), 80)


def test_the_best_epoch_is_chosen_on_the_validation_images() -> None:
    held = [
        {**record, "validation_loss": 1.0, "validation_accuracy": accuracy}
        for record, accuracy in zip(HISTORY, (30.0, 60.0, 61.0), strict=True)
    ]
    for record in held[:2]:
        del record["accuracy"], record["test_loss"]  # the test images are looked at at the end
    words = printed(training_table(held, {}), 80)
    lines = [line.split() for line in words.strip().splitlines()]
    assert lines[1][:7] == "best epoch (3; chosen on the validation".split()
    assert lines[1][-2:] == ["70.00", "%"]
    assert lines[2] == "on the validation images 61.00 %".split()
    assert curves_png(held, {}) != curves_png(HISTORY, {})


def test_the_picture_is_a_picture_and_always_the_same() -> None:
    first = curves_png(HISTORY, {"teacher": 91.0, "before": 10.0})
    image = Image.open(io.BytesIO(first))
    assert (image.format, image.size) == ("PNG", (1080, 432))
    assert len(image.convert("RGB").getcolors(10**6)) > 50
    assert curves_png(HISTORY, {"teacher": 91.0, "before": 10.0}) == first
    assert curves_png(HISTORY, {}) != first
