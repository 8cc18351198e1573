"""`--format onnx`: a network as an ONNX file, its weights dense or made from factors at load."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir
from torch import nn

from seclcompress.errors import ExportError
from seclcompress.export.content import Content, Written
from seclcompress.export.graph.functions import call_functions
from seclcompress.export.graph.operators import stacks
from seclcompress.export.graph.storage import store_compactly
from seclcompress.export.graph.tracing import simplify, trace_network
from seclcompress.export.graph.values import IR_VERSION
from seclcompress.export.plain import InHalves
from seclcompress.export.prepare import Prepared, in_operators

_LARGEST = 2**31 - 1  # bytes; protobuf's limit


def to_onnx(
    prepared: Prepared, content: Content, *, tell: Callable[[str], object] = str
) -> Written:
    """Writes a network as the bytes of an ONNX file.

    Args:
        prepared: The network; float16 changes it. Its structured layers, all of which run fast, become
            operators, as far as there is one.
        content: What the file says of itself. Its `dtype` is `float32`; `float16`, in which the network
            then computes; or `int8`, with which only the weights are stored: the runtime makes them
            float32 at load.
        tell: Is called with what is done.

    Raises:
        ExportError: If torch cannot trace the network, or the file would be too large.
    """
    halves = content.dtype == "float16"
    network, not_fast = in_operators(prepared.network)  # for those that come from elsewhere
    network = InHalves(network) if halves else network
    tell("Tracing the network …")
    model, any_batch = trace_network(network, content.input_size)
    notes = [*prepared.notes, *not_fast]
    if not any_batch:
        content = content.model_copy(update={"batch": 1})
        notes.append(
            "The file takes one image at a time: the network's own code decides by the batch's size."
        )
    places = _as_inputs(model, prepared.makings, "network." if halves else "")
    tell("Simplifying the graph …")
    simplify(model)
    tell("Writing the functions that make the weights …")
    notes += call_functions(model, places)
    tell("Writing the file …")
    if content.dtype == "int8" or (halves and places):
        store_compactly(model, content.dtype)
    if places or content.dtype == "int8":
        _without_names(model)
    content = content.model_copy(update={"stacks": stacks(model)})
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "seclcompress", content.versions["seclcompress"]
    model.metadata_props.update(content.metadata())
    return Written({".onnx": _bytes_of(model)}, content, tuple(notes))


def _as_inputs(
    model: ir.Model, makings: Mapping[str, nn.Module], prefix: str
) -> dict[str, nn.Module]:
    """Turns the initialisers that will be made into inputs, which no simplification can fold."""
    graph, places = model.graph, {}
    for name, making in makings.items():
        value = graph.initializers.get(f"{prefix}{name}")
        if value is None:  # the second name of a shared layer
            continue
        del graph.initializers[f"{prefix}{name}"]
        value.const_value = None
        graph.inputs.append(value)
        places[f"{prefix}{name}"] = making
    return places


def _without_names(model: ir.Model) -> None:
    """Removes the names of nodes and the shapes between them, which would be a tenth of a small file."""
    bodies: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for body in bodies:
        outputs = set(body.outputs)
        for node in body:
            node.name = None
            for value in node.outputs:
                if value not in outputs:
                    value.shape = value.type = None


def _bytes_of(model: ir.Model) -> bytes:
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value)
    if size > _LARGEST:
        raise ExportError(
            f"An ONNX file holds at most {_LARGEST:,} bytes, and these weights take {size:,}. "
            "--dtype float16 halves them; --format torch has no such limit."
        )
    return ir.to_proto(model).SerializeToString()
