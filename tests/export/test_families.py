"""Every registered family: a student of it becomes a file of its factors that computes the same."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from seclcompress import substitutions, workflows
from seclcompress.plan import PlanOptions


def held(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors that a file holds: initialisers, and constants of functions."""
    yield from model.graph.initializer
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in nodes:
            yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


@pytest.mark.parametrize("family", substitutions.names())
def test_a_student_of_it(family: str, tmp_path: Path) -> None:
    options = PlanOptions(substitution=family, only=("group3.0.conv1", "group3.0.conv2"))
    folder = tmp_path / "student"
    workflows.convert("wrn10_1", folder, options=options, num_classes=10)
    found = workflows.export(folder, tmp_path / "it", weights="factors")
    assert found.notes == (), "nothing had to be multiplied out"
    numbers = sum(math.prod(tensor.dims) for tensor in held(onnx.load(found.path)))
    assert numbers < 1.05 * found.parameters + 1000
