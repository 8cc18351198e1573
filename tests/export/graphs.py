"""Running single weights of a graph in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from torch import nn

from seclcompress.export.graph.functions import call_functions
from seclcompress.export.graph.values import OPSET


def graph_of(makings: dict[str, nn.Module]) -> tuple[ir.Model, list[str]]:
    """A model without inputs that returns the weights that are made, and what was said of them."""
    kind = ir.TensorType(ir.DataType.FLOAT)
    inputs = [ir.Value(name=name, type=kind) for name in makings]
    nodes = [ir.Node("", "Identity", [value]) for value in inputs]
    outputs = [node.outputs[0] for node in nodes]
    for name, output in zip(makings, outputs, strict=True):
        output.name, output.type = f"{name}_made", kind
    graph = ir.Graph(inputs, outputs, nodes=nodes, opset_imports={"": OPSET})
    model = ir.Model(graph, ir_version=10)
    return model, call_functions(model, makings)


def run(model: ir.Model) -> list[np.ndarray[Any, Any]]:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    return list(session.run(None, {}))
