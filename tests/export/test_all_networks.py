"""All of torchvision's classification networks become ONNX files that compute the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from thinned import ALIKE, slow_or_exhaustive
from torchvision import models

from seclcompress import workflows

NETWORKS = models.list_models(module=models, exclude="quantized_*")
#: Those that do not, and why; at most three.
EXCEPTIONS = {
    "regnet_y_128gf": "its weights take 2.6 GB, an ONNX file at most 2 GB; --dtype float16 halves them",
    "vit_h_14": "its weights take 2.5 GB, an ONNX file at most 2 GB; --dtype float16 halves them",
}


def test_few_are_left_out() -> None:
    assert len(NETWORKS) >= 80
    assert len(EXCEPTIONS) <= 3
    assert set(EXCEPTIONS) <= set(NETWORKS)


@pytest.mark.parametrize(
    "name",
    slow_or_exhaustive(
        [name for name in NETWORKS if name not in EXCEPTIONS],
        rare=(*ALIKE, "swin_v2_t", "efficientnet_v2_s"),  # a minute and half of one
    ),
)
def test_it_exports_and_agrees(name: str, tmp_path: Path) -> None:
    found = workflows.export(name, tmp_path / "network.onnx")
    assert found.verified.relative_difference < 1e-3
    assert found.verified.agreement == 100
    assert found.path.stat().st_size == found.bytes
    assert found.content.batch is None, "any number of images"
