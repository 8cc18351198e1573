"""Networks that run with fewer and larger operators: convolutions split in two, residual sums and ReLU.

For inference on CPUs with the compiled kernel. A symbolic trace (torch.fx) finds, in a network's own
order, filters over space (a depthwise convolution), the 1×1 convolution or stack behind them, the sum
with a residual, and ReLU. What is found runs as a module, by `kernel.convolve` where weights are dense.
"""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from seclcompress import kernel
from seclcompress.kernel.convolve import output_sizes
from seclcompress.substitutions import StructuredLayer
from seclcompress.substitutions.shapes import SplitConv
from seclcompress.substitutions.shapes.depthwise import plain_depthwise
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


class FusedConv(nn.Module):
    """A depthwise convolution, a 1×1 convolution behind it, or one of them, as one operator.

    Args:
        depthwise: The depthwise convolution, or None; as `is_depthwise` wants it.
        pointwise: The 1×1 convolution, or None; as `is_pointwise` wants it. Behind a depthwise one it
            has neither stride nor padding.
        relu: Whether ReLU follows.
    """

    filters: Tensor | None
    filter_bias: Tensor | None
    matrix: Tensor | None
    bias: Tensor | None

    def __init__(
        self, depthwise: nn.Conv2d | None, pointwise: nn.Conv2d | None, relu: bool = False
    ) -> None:
        super().__init__()
        first = depthwise or pointwise
        last = pointwise or depthwise
        assert first is not None
        assert last is not None
        self.in_channels, self.out_channels = first.in_channels, last.out_channels
        self.kernel_size, self.stride = first.kernel_size, first.stride
        self.padding, self.dilation = first.padding, first.dilation
        self.relu = relu
        filters = None if depthwise is None else depthwise.weight.detach()[:, 0].permute(1, 2, 0)
        self.register_buffer("filters", None if filters is None else filters.contiguous())
        self.register_buffer("filter_bias", _bias(depthwise))
        matrix = None if pointwise is None else pointwise.weight.detach().flatten(1)
        self.register_buffer("matrix", None if matrix is None else kernel.pack_matrix(matrix))
        self.register_buffer("bias", _bias(pointwise))

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Maps (batch, in_channels, rows, columns) to the output, channels last.

        Args:
            x: Also a single image without a batch dimension, as torch's convolutions take it.
            residual: Is added before ReLU.
        """
        if residual is not None and residual.shape != self._output_shape(x):
            # A residual that is broadcast may make the sum larger than what is convolved.
            y = self._convolve(x, None, relu=False) + residual
            return y.relu_() if self.relu else y
        return self._convolve(x, residual, self.relu)

    def _output_shape(self, x: Tensor) -> tuple[int, ...]:
        geometry = (self.kernel_size, self.stride, self.padding, self.dilation)
        sizes = output_sizes(x.shape[-2:], *geometry)  # type: ignore[arg-type]  # as below
        return (*x.shape[:-3], self.out_channels, *sizes)

    def _convolve(self, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        if x.dim() == 3:
            whole = None if residual is None else residual[None]
            return self._convolve(x[None], whole, relu).squeeze(0)
        return kernel.convolve(
            x,
            self.filters,
            self.filter_bias,
            self.matrix,
            self.bias,
            residual,
            self.out_channels,
            relu,
            self.stride,
            self.padding,  # type: ignore[arg-type]  # is_depthwise and is_pointwise refuse words
            self.dilation,
        )

    def extra_repr(self) -> str:
        """Channels, kernel size, stride, and whether ReLU follows."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        return f"{text}, stride={self.stride}, relu={self.relu}"


class FusedStack(nn.Module):
    """A split convolution that runs fast: filters by the kernel, the map's transform behind them.

    Args:
        split: The structured layer, as `is_fast_split` wants it; its pointwise map is shared.
        relu: Whether ReLU follows.
    """

    def __init__(self, split: SplitConv, relu: bool = False) -> None:
        super().__init__()
        depthwise = _depthwise_of(split)
        self.filters = None if depthwise is None else FusedConv(depthwise, None)
        self.map: Any = split if depthwise is None else split.pointwise
        self.relu = relu

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Maps (batch, in_channels, rows, columns) to (batch, out_channels, rows, columns).

        Args:
            x: Also a single image without a batch dimension, as torch's convolutions take it.
            residual: Is added before ReLU.
        """
        if x.dim() == 3 and self.filters is not None:
            y = self.map.map_channels(self.filters(x[None])).squeeze(0)
        else:
            y = self.map(x) if self.filters is None else self.map.map_channels(self.filters(x))
        if residual is not None:
            y = y + residual
        return y.relu_() if self.relu else y


def is_depthwise(layer: Any) -> bool:
    """Whether a layer is a depthwise convolution of images that the kernel can run."""
    return _is_plain(layer) and layer.groups == layer.in_channels == layer.out_channels


def is_pointwise(layer: Any) -> bool:
    """Whether a layer is a 1×1 convolution of images that the kernel can run."""
    return _is_plain(layer) and layer.kernel_size == (1, 1) and layer.groups == 1


def is_fast_split(layer: nn.Module) -> bool:
    """Whether a layer is a split convolution set to run fast, with filters that the kernel can run."""
    return (
        isinstance(layer, SplitConv)
        and layer.execution == "fast"
        and "fast" in layer.executions
        and len(layer.kernel_size) == 2
        and not has_forward_hooks(layer)
        and (layer.depthwise is None or is_depthwise(_depthwise_of(layer)))
    )


def fused_layer(layer: nn.Module) -> nn.Module:
    """The module that runs a single layer in a fused network: fused where that is possible.

    Args:
        layer: What `StructuredLayer.ready` returns.
    """
    if not kernel.available():
        return layer
    if is_fast_split(layer):
        return FusedStack(layer)  # type: ignore[arg-type]
    if is_pointwise(layer):
        return FusedConv(None, layer)  # type: ignore[arg-type]
    if type(layer) is nn.Sequential and len(layer) == 2 and _belong(*layer):
        return FusedConv(layer[0], layer[1])  # type: ignore[arg-type]
    return layer


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
                if first is not None and _only_user(before) is node and _belong(first, layer):
                    self.replace(node, FusedConv(first, layer), before.args[0], before)  # type: ignore[arg-type]
                else:
                    self.replace(node, FusedConv(None, layer), before)  # type: ignore[arg-type]
            elif is_fast_split(layer):
                self.replace(node, FusedStack(layer), before)  # type: ignore[arg-type]
            elif is_depthwise(layer):
                behind = _only_user(node)
                follower = None if behind is None else self.layer(behind)
                if follower is None or not _belong(layer, follower):
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


def _belong(depthwise: Any, pointwise: Any) -> bool:
    """Whether two layers, one directly behind the other, are one convolution split in two."""
    return (
        is_depthwise(depthwise)
        and is_pointwise(pointwise)
        and pointwise.stride == (1, 1)
        and pointwise.padding == (0, 0)
    )


def _is_plain(layer: Any) -> bool:
    """Whether a layer is torch's convolution of images with zeros around, float32, on the CPU."""
    return (
        type(layer) is nn.Conv2d
        and isinstance(layer.padding, tuple)
        and (layer.padding_mode == "zeros" or layer.padding == (0, 0))
        and layer.weight.dtype == torch.float32
        and layer.weight.is_cpu
        and not has_forward_hooks(layer)
    )


def _depthwise_of(split: SplitConv) -> Any:
    """The filters as a plain convolution; None if the kernel covers one position."""
    return None if split.depthwise is None else plain_depthwise(split.depthwise)


def _bias(conv: nn.Conv2d | None) -> Tensor | None:
    return None if conv is None or conv.bias is None else conv.bias.detach().clone()
