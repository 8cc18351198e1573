"""Convolutions and Linears in a row as an ONNX graph, written down without a trace.

A plan by the clock of a runtime times hundreds of networks of one layer. torch's exporter would take a
second for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir
import torch
from torch import nn

from seclcompress.export.graph.values import IR_VERSION, OPSET, held, to_numpy
from seclcompress.substitutions.shapes.convolve import paddings
from seclcompress.substitutions.site import CONVOLUTIONS, Convolution
from seclcompress.torch_private import children_by_name, has_forward_hooks

_FLOAT = ir.TensorType(ir.DataType.FLOAT)


def steps_of(network: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """The layers of a network that is convolutions and Linears in a row, with their names.

    Args:
        network: Any network.

    Returns:
        The layers in order; None for any other network, and where numbers are not float32, padding is
        not zeros, or hooks are there.
    """
    steps = list(_walk(network, ""))
    found = [(name, module) for name, module in steps if module is not None]
    return found if found and len(found) == len(steps) else None


def _walk(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module | None]]:
    if has_forward_hooks(module):
        yield name, None
    elif type(module) is nn.Sequential:
        for part, inside in children_by_name(module).items():  # a module may stand in it twice
            yield from _walk(inside, f"{name}.{part}" if name else part) if inside else ()
    else:
        yield name, module if _is_known(module) else None


def _is_known(module: nn.Module) -> bool:
    if type(module) is not nn.Linear and type(module) not in CONVOLUTIONS.values():
        return False
    plain = all(parameter.dtype == torch.float32 for parameter in module.parameters())
    return plain and getattr(module, "padding_mode", "zeros") == "zeros"


def model_of(
    steps: Sequence[tuple[str, nn.Module]],
    input_name: str,
    output_name: str,
    input_size: tuple[int, ...],
    output_size: tuple[int, ...],
) -> ir.Model:
    """Writes layers in a row as a model for any number of images.

    Args:
        steps: Layers by name, as of `steps_of`. A parameter keeps the name that it has in the network.
        input_name: The input's name.
        output_name: The output's name.
        input_size: The input's sizes behind the batch.
        output_size: The output's sizes behind the batch.
    """
    value = ir.Value(name=input_name, type=_FLOAT, shape=ir.Shape(["batch", *input_size]))
    graph = ir.Graph([value], [], nodes=[], opset_imports={"": OPSET}, name="main_graph")
    flat = len(input_size) == 1
    for name, layer in steps:
        for node in _nodes(graph, name, layer, value, flat):
            graph.append(node)
            value = node.outputs[0]
    value.name, value.type = output_name, _FLOAT
    value.shape = ir.Shape(["batch", *output_size])
    graph.outputs.append(value)
    return ir.Model(graph, ir_version=IR_VERSION)


def _nodes(graph: ir.Graph, name: str, layer: nn.Module, x: ir.Value, flat: bool) -> list[ir.Node]:
    """The nodes of one layer in order; its parameters become initialisers."""
    parameters = [
        graph.initializers.get(full) or held(graph, full, to_numpy(parameter))
        for part, parameter in layer.named_parameters()
        for full in [f"{name}.{part}" if name else part]
    ]
    if not isinstance(layer, nn.Linear):
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        return [ir.Node("", "Conv", [x, *parameters], _geometry(layer))]
    if flat:
        return [ir.Node("", "Gemm", [x, *parameters], [ir.AttrInt64("transB", 1)])]
    turned = ir.Node("", "Transpose", parameters[:1], [ir.AttrInt64s("perm", [1, 0])])
    product = ir.Node("", "MatMul", [x, turned.outputs[0]])
    sums = [ir.Node("", "Add", [product.outputs[0], bias]) for bias in parameters[1:]]
    return [turned, product, *sums]


def _geometry(conv: Convolution) -> list[ir.Attr]:
    before, behind = zip(*paddings(conv, conv.kernel_size), strict=True)
    return [
        ir.AttrInt64s("kernel_shape", conv.kernel_size),
        ir.AttrInt64s("strides", conv.stride),
        ir.AttrInt64s("pads", [*before, *behind]),
        ir.AttrInt64s("dilations", conv.dilation),
        ir.AttrInt64("group", conv.groups),
    ]
