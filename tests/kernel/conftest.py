"""Fixtures of the kernel's tests: each instruction set, and the threads as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from seclcompress.kernel import by_fft, by_native


@pytest.fixture(params=[*by_native.instruction_sets(), "fft"])
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test once with each instruction set of this machine, and with what GPUs run."""
    if request.param == "fft":
        monkeypatch.setattr(by_native, "has_plan", lambda n: False)
        monkeypatch.setattr(by_fft, "SCRATCH_BYTES", 2**16)
    else:
        monkeypatch.setattr(by_native, "instruction_set", request.param)
    return str(request.param)


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
