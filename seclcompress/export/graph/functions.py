"""ONNX functions that make weights from factors: written by the family, or traced from its torch code.

Layers that are made alike share a function. A runtime that folds constants runs it once, at load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir import tape
from torch import Tensor, nn

from seclcompress.export.graph.operators import DOMAIN, VERSION
from seclcompress.export.graph.tracing import simplify, trace
from seclcompress.export.graph.values import OPSET, held, to_numpy
from seclcompress.wording import listed

#: The domains and versions of the operations in a file.
IMPORTS = {"": OPSET, DOMAIN: VERSION}
#: Constants of a traced function with more numbers are computed in the graph instead.
_LARGEST_CONSTANT = 64


@dataclass(frozen=True)
class Output:
    """An output of a function without inputs, which the whole file computes once.

    Attributes:
        function: The function's name.
        place: The output's place.
    """

    function: str
    place: int


@dataclass(frozen=True)
class Made:
    """A weight as a function of what the file holds.

    Attributes:
        body: The function's body.
        given: What it takes, in its inputs' order: the name of a parameter or buffer of the module that
            makes the weight, a tensor that is the same for all who share the function, or what another
            function computes.
    """

    body: ir.Graph
    given: Sequence[str | Tensor | Output]


class Writer:
    """Writes a function's body; the `GraphWriter` that families are given.

    Args:
        functions: The file's functions by name; those that are called are added.
    """

    def __init__(self, functions: dict[str, ir.Function]) -> None:
        self._tape, self._functions = tape.Tape(), functions
        self._constants: dict[Any, ir.Value] = {}
        self._given: dict[object, tuple[Tensor | Output, ir.Value]] = {}
        self._count = 0

    def given(self, tensor: Tensor) -> ir.Value:
        """The function's input for a tensor that the file holds."""
        return self._input(id(tensor), tensor)

    def op(self, kind: str, *inputs: Any, **attributes: Any) -> ir.Value:
        """Adds a node with one output, see `GraphWriter.op`."""
        values = [
            value if isinstance(value, ir.Value) else self._constant(value) for value in inputs
        ]
        return self._tape.op(kind, values, attributes, output=self._value())

    def split(self, value: Any, parts: int) -> list[Any]:
        """Splits a value into single entries of its first dimension, each of length 1."""
        outputs = [self._value() for _ in range(parts)]
        attributes = {"axis": 0, "num_outputs": parts}
        self._tape.op_multi_out("Split", [value], attributes, outputs=outputs)
        return outputs

    def call(
        self,
        name: str,
        inputs: Sequence[Any],
        body: Callable[[Writer, Sequence[Any]], Sequence[Any]],
    ) -> Sequence[Any]:
        """Calls a function that is in the file once, see `GraphWriter.call`."""
        if name not in self._functions:
            inner = Writer(self._functions)
            values = [ir.Value(name=f"i{place}") for place in range(len(inputs))]
            outputs = body(inner, values)
            self._functions[name] = as_function(name, inner.graph(values, outputs))
        places = range(len(self._functions[name].outputs))
        if not inputs:
            shared = [Output(name, place) for place in places]
            return [self._input(output, output) for output in shared]
        outputs = [self._value() for _ in places]
        self._tape.op_multi_out(name, list(inputs), outputs=outputs, domain=DOMAIN)
        return outputs

    def graph(self, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Graph:
        """What has been written, as a graph."""
        return ir.Graph(inputs, outputs, nodes=self._tape.nodes, opset_imports=IMPORTS)

    def made(self, output: ir.Value, names: Mapping[int, str]) -> Made:
        """What has been written, as a function; `names` has those of the module's own tensors by id."""
        pairs = list(self._given.values())
        body = self.graph([value for _, value in pairs], [output])
        return Made(body, [names.get(id(given), given) for given, _ in pairs])

    def _input(self, key: object, given: Tensor | Output) -> ir.Value:
        if key not in self._given:
            self._given[key] = (given, ir.Value(name=f"i{len(self._given)}"))
        return self._given[key][1]

    def _constant(self, value: float | list[int]) -> ir.Value:
        key = (type(value), tuple(value) if isinstance(value, list) else value)
        if key not in self._constants:
            kind = np.float32 if isinstance(value, float) else np.int64
            attributes = {"value": ir.tensor(np.array(value, dtype=kind))}
            self._constants[key] = self._tape.op("Constant", [], attributes, output=self._value())
        return self._constants[key]

    def _value(self) -> ir.Value:
        self._count += 1
        return ir.Value(name=f"v{self._count}")


def call_functions(model: ir.Model, places: Mapping[str, nn.Module]) -> list[str]:
    """Makes the values of inputs of a graph from factors, which become its initialisers.

    Args:
        model: The model, changed in place.
        places: By the name of an input of the graph, the module that makes its value. The inputs are
            removed.

    Returns:
        Sentences on weights that cannot be made so in a graph; these are written as they are.
    """
    graph, functions = model.graph, dict[str, ir.Function]()
    inputs = {value.name: value for value in graph.inputs}
    known: dict[object, tuple[str, Made | None]] = {}
    without, calls = [], list[ir.Node]()
    shared = _Shared(functions, calls)
    for name, making in places.items():
        alike = signature(making)
        if alike not in known:
            known[alike] = _add_function(making, functions, f"make_{len(known)}")
        function, made = known[alike]
        value = inputs[name]
        graph.inputs.remove(value)
        if made is None:
            without.append(name)
            replaced = held(graph, name, to_numpy(making()))
        else:
            given = _hold(graph, name, function, made, making, shared)
            calls.append(ir.Node(DOMAIN, function, given))
            replaced = calls[-1].outputs[0]
        if value.dtype not in (None, ir.DataType.FLOAT):
            cast = ir.AttrInt64("to", value.dtype.value)
            calls.append(ir.Node("", "Cast", [replaced], [cast]))
            replaced = calls[-1].outputs[0]
        value.replace_all_uses_with(replaced)
    graph.insert_before(graph[0], calls)
    graph.opset_imports.update(IMPORTS)
    for added in functions.values():
        model.functions[added.identifier()] = added
    if not without:
        return []
    return [
        f"{listed(without, 3)}: torch cannot export how they are made; they are multiplied out."
    ]


def _add_function(
    making: nn.Module, functions: dict[str, ir.Function], name: str
) -> tuple[str, Made | None]:
    added = dict(functions)
    try:
        made = make_function(making, added)
    except Exception:  # torch code that the exporter does not know
        return name, None
    functions.update(added)
    functions[name] = as_function(name, made.body)
    return name, made


class _Shared:
    """What functions without inputs compute, each called once.

    Args:
        functions: The file's functions by name.
        calls: Nodes, to which calls are added.
    """

    def __init__(self, functions: Mapping[str, ir.Function], calls: list[ir.Node]) -> None:
        self._functions, self._calls = functions, calls
        self._outputs: dict[str, Sequence[ir.Value]] = {}

    def value(self, output: Output) -> ir.Value:
        """The value of such an output."""
        name = output.function
        if name not in self._outputs:
            number = len(self._functions[name].outputs)
            self._calls.append(ir.Node(DOMAIN, name, [], num_outputs=number))
            self._outputs[name] = self._calls[-1].outputs
        return self._outputs[name][output.place]


def _hold(
    graph: ir.Graph,
    weight: str,
    function: str,
    made: Made,
    making: nn.Module,
    shared: _Shared,
) -> list[ir.Value]:
    """The values that a function takes to make a weight; those that the file holds are added to it."""
    own = _own_tensors(making)
    values = []
    for place, given in enumerate(made.given):
        if isinstance(given, str):
            name = f"{weight}.{given.rpartition('.')[2]}"
            values.append(held(graph, name, to_numpy(own[given])))
        elif isinstance(given, Output):
            values.append(shared.value(given))
        else:
            name = f"{function}.{place}"
            there = graph.initializers.get(name)
            values.append(there or held(graph, name, to_numpy(given)))
    return values


def as_function(name: str, body: ir.Graph) -> ir.Function:
    """A body with a name."""
    return ir.Function(DOMAIN, name, graph=body, attributes=[])


def make_function(making: nn.Module, functions: dict[str, ir.Function]) -> Made:
    """The function that makes a weight.

    Args:
        making: A module without inputs, as `StructuredLayer.made_weights` gives them. If it has a method
            `write`, that is asked first.
        functions: The file's functions by name; those that the body calls are added.

    Returns:
        What the family writes, or a trace of the module's torch code.

    Raises:
        Exception: Whatever the exporter says of torch code that it does not know.
    """
    write = getattr(making, "write", None)
    writer = Writer(functions)
    written = None if write is None else write(writer)
    if written is None:
        return _traced(making)
    return writer.made(written, {id(tensor): name for name, tensor in _own_tensors(making).items()})


def _traced(making: nn.Module) -> Made:
    model = trace(making.eval())
    simplify(model, _LARGEST_CONSTANT)
    graph, own = model.graph, _own_tensors(making)
    given, inputs, constants = [], [], []
    used = {value for node in graph for value in node.inputs if value is not None}
    for name, value in list(graph.initializers.items()):
        del graph.initializers[name]
        if value not in used:
            continue
        if name in own:
            given.append(name)
            inputs.append(value)
        else:  # a function has no initialisers of its own
            assert value.const_value is not None
            constant = ir.Value(name=f"{name}_held")
            attribute = ir.AttrTensor("value", value.const_value)
            constants.append(ir.Node("", "Constant", [], [attribute], outputs=[constant]))
            value.replace_all_uses_with(constant, replace_graph_outputs=True)
    nodes, outputs = list(graph), list(graph.outputs)
    graph.remove(nodes)
    graph.outputs.clear()
    for node in nodes:
        for value in node.outputs:
            value.shape = value.type = None  # a file need not hold what follows from the operations
    body = ir.Graph(inputs, outputs, nodes=[*constants, *nodes], opset_imports=IMPORTS)
    return Made(body, given)


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def signature(making: nn.Module) -> object:
    """What makings that one function serves have in common; it differs for those that it does not.

    It holds everything that a module keeps in its attributes, except the values of what the file holds.
    """
    return tuple(
        (name, type(module).__qualname__, *_attributes(module), *_tensors(module))
        for name, module in making.named_modules()
    )


def _attributes(module: nn.Module) -> list[str]:
    of_torch = vars(nn.Module()).keys()
    return sorted(f"{k}={v!r}" for k, v in vars(module).items() if k not in of_torch)


def _tensors(module: nn.Module) -> list[str]:
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return [f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in own]
