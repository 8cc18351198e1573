"""Finds in a network's trace (torch.fx) what can be fused, and puts the fused modules there."""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from seclcompress import kernel
from seclcompress.fusing.modules import (
    FusedConv,
    FusedStack,
    belong,
    is_depthwise,
    is_fast_split,
    is_pointwise,
)
from seclcompress.substitutions import StructuredLayer
from seclcompress.torch_private import has_forward_hooks
from seclcompress.trace import whole_copy

_SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_IN_PLACE = {operator.iadd, "add_"}
_RELUS = {F.relu, torch.relu, torch.relu_, "relu", "relu_"}
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class NotTraceableError(Exception):
    """A symbolic trace of a network failed; it is no error of the network, which runs as it is."""


class Tracer(fx.Tracer):
    """Traces into all modules but torch's own layers, structured layers and fused ones."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Whether the trace shows a module as one call."""
        own = isinstance(module, (StructuredLayer, FusedConv, FusedStack))
        return own or super().is_leaf_module(module, name)


def traced(network: nn.Module) -> fx.Graph:
    """The network's operations in their order, with structured layers as one call each.

    Raises:
        NotTraceableError: If the trace fails. Its cause may be anything: torch.fx runs the network's own
            Python on symbols, and that raises what it likes where it needs a value.
    """
    try:
        return Tracer().trace(whole_copy(network))  # tracing may change the modules that it runs
    except Exception as error:
        kind = type(network).__name__
        raise NotTraceableError(
            f"{kind} cannot be traced ({type(error).__name__}: {error})."
        ) from error


def fuse(network: nn.Module, graph: fx.Graph) -> nn.Module:
    """Makes a network that computes the same with fused modules, for inference on a CPU.

    Args:
        network: A network in eval mode, with batch norm folded away; it is not changed, and shares its
            other modules with the result.
        graph: What `traced` returns of it; it is changed.

    Returns:
        A network without the original's class; the network itself where nothing can be fused.
    """
    if not kernel.available():
        return network
    fused = _Fuser(network, graph).run()
    if not fused:
        return network
    there = (network.named_modules(), network.named_parameters(), network.named_buffers())
    parts = {name: part for named in there for name, part in named}
    return fx.GraphModule({**parts, **fused}, graph)


class _Fuser:
    """Rewrites a network's graph in place."""

    def __init__(self, network: nn.Module, graph: fx.Graph) -> None:
        self.graph = graph
        self.modules = dict(network.named_modules())
        calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
        self.once = {name for name, number in calls.items() if number == 1}
        self.made: dict[str, nn.Module] = {}

    def run(self) -> dict[str, nn.Module]:
        """Fuses what can be fused; returns the new modules by name."""
        self.without_nothing()
        for node in list(self.graph.nodes):
            layer = self.layer(node)
            if layer is None or len(node.args) != 1 or node.kwargs:
                continue
            before = node.args[0]
            if not isinstance(before, fx.Node):
                continue
            if is_pointwise(layer):
                first = self.layer(before)
                if first is not None and _only_user(before) is node and belong(first, layer):
                    self.replace(node, FusedConv(first, layer), before.args[0], before)  # type: ignore[arg-type]
                else:
                    self.replace(node, FusedConv(None, layer), before)  # type: ignore[arg-type]
            elif is_fast_split(layer):
                self.replace(node, FusedStack(layer), before)  # type: ignore[arg-type]
            elif is_depthwise(layer):
                behind = _only_user(node)
                follower = None if behind is None else self.layer(behind)
                if follower is None or not belong(layer, follower):
                    self.replace(node, FusedConv(layer, None), before)  # type: ignore[arg-type]
        self.graph.lint()
        return self.made

    def without_nothing(self) -> None:
        """Removes calls of modules that return what they get, such as a batch norm's remains."""
        for node in list(self.graph.nodes):
            if node.op != "call_module":
                continue
            module = self.modules[str(node.target)]
            idle = type(module) is nn.Identity or (
                type(module) in _DROPOUTS and not module.training
            )
            if idle and not has_forward_hooks(module):
                node.replace_all_uses_with(node.args[0])
                self.graph.erase_node(node)

    def layer(self, node: fx.Node) -> nn.Module | None:
        """The layer that a node calls, if it is called nowhere else."""
        if node.op != "call_module" or str(node.target) not in self.once:
            return None
        return self.modules.get(str(node.target))

    def replace(self, node: fx.Node, fused: Any, x: Any, before: fx.Node | None = None) -> None:
        """Puts a fused module into the place of a layer, the sum and the ReLU behind it.

        Args:
            node: The layer's call.
            fused: The fused module.
            x: The node of its input.
            before: The call of a depthwise convolution that the fused module contains.
        """
        replaced = [node] if before is None else [before, node]
        residual = self.residual(replaced[-1])
        if residual is not None:
            replaced.append(next(iter(node.users)))
        behind = _only_user(replaced[-1])
        if behind is not None and self.is_relu(behind):
            fused.relu = True
            replaced.append(behind)
        name = f"fused_{str(node.target).replace('.', '_')}"
        self.made[name] = fused
        with self.graph.inserting_before(replaced[-1]):
            arguments = (x,) if residual is None else (x, residual)
            call = self.graph.call_module(name, arguments)
        replaced[-1].replace_all_uses_with(call)
        for old in reversed(replaced):
            self.graph.erase_node(old)

    def residual(self, node: fx.Node) -> fx.Node | None:
        """What the only user of a node adds to it; None if that does something else."""
        user = _only_user(node)
        if user is None or user.op not in ("call_function", "call_method"):
            return None
        if user.target not in _SUMS or len(user.args) != 2 or user.kwargs:
            return None
        others = [value for value in user.args if value is not node]
        if len(others) != 1 or not isinstance(others[0], fx.Node):
            return None
        # A sum into the other operand would change what others read.
        into_other = user.target in _IN_PLACE and user.args[0] is not node
        return None if into_other and len(others[0].users) > 1 else others[0]

    def is_relu(self, node: fx.Node) -> bool:
        """Whether a node is ReLU of its only input."""
        if node.op == "call_module":
            module = self.modules.get(str(node.target))  # not there: already a fused one
            return type(module) is nn.ReLU and not has_forward_hooks(module)
        return node.op in ("call_function", "call_method") and node.target in _RELUS


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None
