"""Public names are imported on first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import seclcompress
from seclcompress import workflows


@pytest.mark.parametrize("package", [seclcompress, workflows], ids=lambda package: package.__name__)
def test_every_public_name_is_there(package: object) -> None:
    for name in dir(package):
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # type: ignore[attr-defined] # noqa: B018


def test_settings_and_workflows_are_named_without_torch() -> None:
    code = """
import sys, seclcompress
seclcompress.PlanOptions(), seclcompress.TrainingSettings(), seclcompress.workflows
assert "torch" not in sys.modules
seclcompress.workflows.count
assert "torch" in sys.modules and "fvcore" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
