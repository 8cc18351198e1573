"""Held-out images, patience, averages and the kinds of distillation, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Invoke

from seclcompress import artefact

DATA = ("--data", "digits", "--train-images", 40, "--batch-size", 20, "--input-size", 8)


def test_a_run_that_ends_early(invoke: Invoke) -> None:
    still = ("--epochs", 9, "--lr", 1e-12, "--ema", 0.9, "--validation", 0.1, "--patience", 1)
    result = invoke("train", "wrn10_1", *DATA, *still, "-o", "out", "--json")
    said = " ".join(result.stderr.split())
    record = json.loads(result.stdout)
    epochs = record["epochs"]
    assert f"Ended after epoch {len(epochs)} of 9, as none since the best was better" in said
    assert record["metrics"]["epochs"] == len(epochs) < 9
    assert "validation accuracy" in said
    assert "chosen on the validation images" in said
    assert f"{record['metrics']['accuracy']:.2f} % of the test images right" in said
    tested = [one["epoch"] for one in epochs if "accuracy" in one]
    assert tested == [record["metrics"]["best_epoch"], len(epochs)]
    training = artefact.read_config(Path("out")).training
    assert (training["ema"], training["patience"]) == (0.9, 1)


def test_patience_needs_held_out_images(invoke: Invoke) -> None:
    result = invoke("train", "wrn10_1", *DATA, "--patience", 3, "-o", "out", code=2)
    assert "--patience 3: no images are held out of digits" in " ".join(result.stderr.split())
    assert not list(Path().glob("out*"))


def test_the_kinds_of_distillation(invoke: Invoke) -> None:
    one = ("--epochs", 1, "--lr", 0.01)
    invoke("train", "wrn10_1", *DATA, *one, "-o", "teacher")
    Path("mine.toml").write_text('kd = "dkd"\ndkd_others = 2.5\n', encoding="utf-8")
    how = ("--recipe", "mine.toml", "--standardize-logits", "--dkd-target", 2)
    given = ("distill", "wrn10_1", "--teacher", "teacher", "--untrained-teacher", *DATA, *one)
    invoke(*given, *how, "-o", "out")
    training = artefact.read_config(Path("out")).training
    names = ("kd", "dkd_target", "dkd_others", "standardize_logits")
    assert [training[name] for name in names] == ["dkd", 2.0, 2.5, True]
    assert not {*names} & artefact.read_config(Path("teacher")).training.keys()
    refused = invoke(*given, "--kd", "other", "-o", "no", code=2)
    assert "--kd: Input should be 'kd' or 'dkd'" in " ".join(refused.stderr.split())
