"""Whole runs on a GPU: they learn, stop and go on, in half precision and compiled.

These tests are skipped where torch sees no GPU. There, with SECLCOMPRESS_TEST_DEVICE=cuda in the
environment, tests/substitutions, tests/kernel and tests/test_stack.py run on the GPU as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seclcompress import artefact, substitutions
from seclcompress.errors import SeclcompressError, TrainingError
from seclcompress.settings import PlanOptions, TrainingSettings
from seclcompress.workflows import converting, evaluating, training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")

NETWORK, SIZE = "wrn10_1", (3, 32, 32)
SHORT = TrainingSettings(epochs=3, batch_size=64, lr=0.05, device="cuda")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu") / "teacher"
    result = training.train(
        NETWORK, data="digits", output_dir=folder, settings=SHORT, input_size=SIZE
    )
    assert result.metrics["accuracy"] > 60
    return folder


def student_of(teacher: Path, folder: Path, family: str = "acdc") -> Path:
    options = PlanOptions(substitution=family, keep=("*.shortcut",))
    converting.convert(teacher, folder, options=options)
    return folder


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"amp": "bf16"},
        {"amp": "fp16"},
        {"channels_last": False},
        {"ema": 0.5, "kd": "dkd", "standardize_logits": True, "validation": 0.1, "patience": 9},
    ],
    ids=str,
)
def test_a_student_learns_on_a_gpu(teacher: Path, tmp_path: Path, how: dict[str, object]) -> None:
    student = student_of(teacher, tmp_path / "student")
    result = training.distill(
        student,
        teacher=teacher,
        data="digits",
        output_dir=tmp_path / "distilled",
        settings=SHORT.model_copy(update={**how, "epochs": 4}),
    )
    assert result.metrics["accuracy"] > 30, "three times chance"
    on_the_cpu = evaluating.evaluate(tmp_path / "distilled", data="digits").accuracy
    assert on_the_cpu == pytest.approx(result.metrics["accuracy"], abs=1.0)


def test_a_compiled_student_learns_on_a_gpu(teacher: Path, tmp_path: Path) -> None:
    student = student_of(teacher, tmp_path / "student")
    result = training.distill(
        student,
        teacher=teacher,
        data="digits",
        output_dir=tmp_path / "distilled",
        settings=SHORT.model_copy(update={"compile": True, "amp": "bf16", "epochs": 4}),
    )
    assert result.metrics["accuracy"] > 30


def test_a_run_on_a_gpu_stops_and_goes_on(teacher: Path, tmp_path: Path) -> None:
    student = student_of(teacher, tmp_path / "student")
    arguments = {"teacher": teacher, "data": "digits", "settings": SHORT}
    whole = training.distill(student, output_dir=tmp_path / "whole", **arguments)
    with pytest.raises(training.InterruptedRunError):
        training.distill(student, output_dir=tmp_path / "cut", time_limit=1e-9, **arguments)
    cut = training.distill(student, output_dir=tmp_path / "cut", resume=True, **arguments)
    # A GPU adds in another order each time, so the figures are close, not equal.
    assert cut.metrics["accuracy"] == pytest.approx(whole.metrics["accuracy"], abs=15)
    assert [one["epoch"] for one in cut.history] == [1, 2, 3]


@pytest.mark.parametrize("family", substitutions.names())
def test_every_family_takes_a_step_on_a_gpu(teacher: Path, tmp_path: Path, family: str) -> None:
    options = PlanOptions(substitution=family, keep=("*.shortcut",))
    try:
        converting.convert(teacher, tmp_path / "student", options=options)
    except SeclcompressError as error:
        pytest.skip(f"it takes no layer of {NETWORK}: {error}")
    result = training.distill(
        tmp_path / "student",
        teacher=teacher,
        data="digits",
        output_dir=tmp_path / "distilled",
        settings=SHORT.model_copy(update={"epochs": 1}),
    )
    assert result.metrics["accuracy"] >= 0
    network = artefact.load(tmp_path / "distilled")
    expected = network(torch.zeros(1, *SIZE))
    found = network.cuda()(torch.zeros(1, *SIZE, device="cuda"))
    torch.testing.assert_close(found.cpu(), expected, atol=1e-2, rtol=1e-2)


def test_a_gpu_without_memory_is_said(teacher: Path, tmp_path: Path) -> None:
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(0, free - 300 * 2**20), dtype=torch.uint8, device="cuda")
    try:
        with pytest.raises(TrainingError, match="Out of memory on cuda"):
            training.train(
                "wrn16_4",
                data="digits",
                output_dir=tmp_path / "run",
                settings=SHORT.model_copy(update={"batch_size": 1024}),
                input_size=SIZE,
            )
    finally:
        del held
        torch.cuda.empty_cache()
