"""The teacher's outputs, computed for each batch or once for a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import (
    Silent,
    digits,
    distiller,
)

from seclcompress.data import Data


@pytest.fixture
def data() -> Data:
    return digits()


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"beta": 100.0, "taps": ("2",), "crop": True}, 8),
        ({"beta": 0.0, "alpha": 0.5, "flip": True}, 8),
        (
            {"beta": 100.0, "taps": ("2",)},
            4,
        ),  # the images are not random, so the outputs are computed once
        ({"beta": 0.0, "alpha": 0.0}, 0),
    ],
)
def test_the_teacher_is_asked_in_eval_mode_and_left_alone(
    tmp_path: Path, data: Data, settings: dict[str, Any], asked: int
) -> None:
    run = distiller(tmp_path, data, epochs=2, **settings)
    assert run.teacher is not None
    teacher = run.teacher.network
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    calls = []
    teacher.register_forward_hook(
        lambda m, a, o: calls.append((m.training, torch.is_inference_mode_enabled()))
    )
    run.run()
    looking = 8  # batches of test images, before the first step
    assert calls == [(False, True)] * (looking + asked)
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_what_is_remembered_is_what_would_be_said(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembering, asking = Silent(), Silent()
    distiller(tmp_path / "a", data, remembering, alpha=0.5, taps=("2",)).run()
    monkeypatch.setattr("seclcompress.train.teacher._MEMORY", 1)
    distiller(tmp_path / "b", data, asking, alpha=0.5, taps=("2",)).run()
    assert remembering.steps == pytest.approx(asking.steps, rel=1e-4)
