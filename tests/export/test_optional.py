"""Formats whose packages are extras: run where they are installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from seclcompress import export, workflows


@pytest.mark.parametrize("name", ["openvino", "executorch", "litert"])
def test_it_exports_and_evaluates(name: str, tmp_path: Path) -> None:
    chosen = export.get(name)
    if chosen.missing():
        pytest.skip(f"{', '.join(chosen.missing())} not installed")
    found = workflows.export("wrn10_1", tmp_path / "it", format=name, data="digits", num_classes=10)
    assert found.after is not None
    assert found.before is not None
    assert found.after.accuracy == pytest.approx(found.before.accuracy, abs=0.5)
    again = workflows.evaluate(found.path, data="digits")
    assert again.accuracy == found.after.accuracy
    assert sum((tmp_path / file).stat().st_size for file in found.files) == found.bytes
