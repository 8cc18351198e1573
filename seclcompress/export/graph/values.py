"""Tensors as an ONNX graph holds them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

Array: TypeAlias = np.ndarray[Any, Any]
#: The operator set of the files: the one that torch's exporter of this generation writes.
OPSET = 20
#: The version of the files' own form.
IR_VERSION = 10


def to_numpy(tensor: Tensor) -> Array:
    """A tensor's values as a file holds them: float32 for any floating-point dtype."""
    tensor = tensor.detach().cpu()
    return (tensor.to(torch.float32) if tensor.is_floating_point() else tensor).numpy()


def held(graph: ir.Graph, name: str, numbers: Array) -> ir.Value:
    """Adds an initialiser to a graph."""
    value = ir.Value(
        name=name,
        shape=ir.Shape(numbers.shape),
        type=ir.TensorType(ir.DataType.from_numpy(numbers.dtype)),
        const_value=ir.tensor(numbers, name=name),
    )
    graph.initializers[name] = value
    return value
