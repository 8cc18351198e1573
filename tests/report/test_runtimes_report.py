"""What is said of timings in several runtimes."""

from __future__ import annotations

import pytest

from seclcompress.export.race import Runtimes
from seclcompress.report.runtimes import slower_notes
from seclcompress.timing import Timing


@pytest.mark.parametrize(
    ("dense", "chosen", "spread", "said"),
    [
        (0.036, 0.047, 0.002, True),
        (0.047, 0.036, 0.002, False),
        (0.036, 0.037, 0.002, False),  # within what varies
        (0.036, 0.047, 0.030, False),  # too unsteady to say anything
    ],
)
def test_layers_that_are_slower_together(
    dense: float, chosen: float, spread: float, said: bool
) -> None:
    row = {"dense": Timing(dense, spread), "auto": Timing(chosen, spread)}
    notes = slower_notes(Runtimes({}, {"onnxruntime": row}))
    assert len(notes) == said
    if said:
        assert "In onnxruntime the chosen executions are slower together" in notes[0]
        assert "by 11.00 ms" in notes[0]


def test_a_runtime_without_one_of_them() -> None:
    assert slower_notes(Runtimes({}, {"openvino": {"dense": Timing(0.1, 0.0)}})) == []
