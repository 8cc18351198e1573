"""The operator of an ONNX file that runs a layer's fast transform: `seclcompress.AcdcStack`.

csrc/onnxruntime has its kernel for ONNX Runtime, and says what its inputs and attributes are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnx.defs import OpSchema
from onnxscript.values import Op, Opset

import seclcompress.kernel  # noqa: F401 - registers the operator of torch

#: The domain of what a file has beside ONNX's own operations, and its version.
DOMAIN, VERSION = "seclcompress", 1
STACK = "AcdcStack"
_FLOAT = "tensor(float)"


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """By the operator of torch, how a trace writes it."""
    return {torch.ops.seclcompress.acdc_stack.default: _stack}


def stacks(model: ir.Model) -> int:
    """The number of nodes that need the library."""
    return sum(node.domain == DOMAIN and node.op_type == STACK for node in model.graph)


def _schema() -> OpSchema:
    optional = OpSchema.FormalParameterOption.Optional
    inputs = [OpSchema.FormalParameter(name, _FLOAT) for name in ("x", "a", "d")]
    inputs += [
        OpSchema.FormalParameter(name, _FLOAT, param_option=optional) for name in ("bias", "scale")
    ]
    whole = OpSchema.AttrType.INT
    return OpSchema(
        STACK,
        DOMAIN,
        VERSION,
        inputs=inputs,
        outputs=[OpSchema.FormalParameter("y", _FLOAT)],
        attributes=[OpSchema.Attribute(name, whole) for name in ("out_channels", "channels_last")],
    )


_STACK = Op(Opset(DOMAIN, VERSION), STACK, _schema())


def _stack(
    x: Any,
    a: Any,
    d: Any,
    out_channels: int,
    bias: Any = None,
    scale: Any = None,
    transposed: bool = False,
) -> Any:
    assert not transposed  # layers run their stack forward
    return _STACK(x, a, d, bias, scale, out_channels=out_channels, channels_last=0)
