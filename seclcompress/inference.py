"""Preparing a network for inference: plain layers, batch norm folded away, and fused operators."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from seclcompress import fusing, kernel
from seclcompress.networks.tasks import task_of
from seclcompress.rewrite import replace_module
from seclcompress.substitutions import StructuredConv, StructuredLayer, structured_layers
from seclcompress.torch_private import has_forward_hooks, tree_leaves
from seclcompress.trace import floating_dtype, whole_copy

_log = logging.getLogger("seclcompress")
#: How far a fused network may be from the unfused one, relative to the largest output.
_FUSED = 1e-4
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def for_inference(
    network: nn.Module,
    input_size: tuple[int, ...],
    execution: str = "auto",
    *,
    fuse: bool = True,
) -> nn.Module:
    """Makes a faster copy that computes the same as the network in eval mode.

    Layers that run dense become plain layers; layers that run fast stay structured. A batch norm
    directly after a convolution is folded into it, also inside plain blocks and after structured
    layers. A symbolic trace (torch.fx) finds these places. It can miss decisions that a network makes in
    Python, so the folded copy is compared with the unfolded one on random images. If they differ, the
    unfolded copy is returned.

    A rewritten network that runs on a CPU with the compiled kernel is then fused (`fusing.fuse`), and
    compared once more. A network without structured layers is left to torch, as its user runs it.

    Args:
        network: Any network; it is not changed.
        input_size: (channels, *spatial) of the images for that comparison.
        execution: `dense`, `fast`, or `auto` for each layer's planned execution.
        fuse: Whether to fuse; without that, dense layers are torch's own, as other runtimes need them.

    Returns:
        A network in eval mode whose parameters need no gradients.
    """

    def ready(layer: StructuredLayer) -> nn.Module:
        return layer.ready(layer.planned_execution if execution == "auto" else execution)

    plain = folded(network, input_size, ready)
    return fused(plain, input_size) if fuse and structured_layers(network) else plain


def fused(network: nn.Module, input_size: tuple[int, ...]) -> nn.Module:
    """Fuses a network that `for_inference` has prepared without fusing it.

    Args:
        network: It is not changed; the result shares modules with it.
        input_size: (channels, *spatial) of the images with which the fused network is compared.

    Returns:
        A network that computes the same; the network itself where it cannot be fused. The logger
        `seclcompress` tells why.
    """
    if not kernel.available() or task_of(network).networks:  # what calls those looks at their class
        return network
    try:
        graph = fusing.traced(network)
        _check_trace(network, graph, input_size)
    except fusing.NotTraceableError as error:
        _log.info("Not fused: %s", error)
        return network
    faster = fusing.fuse(network, graph).eval().requires_grad_(False)
    if faster is network or _agree(network, faster, input_size, _FUSED):
        return faster
    _log.warning("Not fused: %s computes something else when fused.", type(network).__name__)
    return network


def _check_trace(network: nn.Module, graph: fx.Graph, input_size: tuple[int, ...]) -> None:
    """Raises NotTraceableError unless a trace, not fused yet, computes what the network does.

    A trace can miss decisions that a network makes in Python; what it then computes may even fail.
    """
    kind = type(network).__name__
    try:
        same = _agree(network, fx.GraphModule(network, copy.deepcopy(graph)), input_size, _FUSED)
    except Exception as error:
        raise fusing.NotTraceableError(
            f"a trace of {kind} does not run ({type(error).__name__}: {error})."
        ) from error
    if not same:
        raise fusing.NotTraceableError(f"a trace of {kind} computes something else.")


def folded(
    network: nn.Module,
    input_size: tuple[int, ...],
    replacement: Callable[[StructuredLayer], nn.Module],
) -> nn.Module:
    """Makes a copy in which structured layers are replaced and batch norm is folded away.

    Args:
        network: Any network; it is not changed.
        input_size: (channels, *spatial) of the images with which the folded copy is checked.
        replacement: What stands in the copy for each structured layer; it shares nothing with the layer.

    Returns:
        A network in eval mode whose parameters need no gradients.
    """
    if isinstance(network, StructuredLayer):  # it has no parent in which it could be replaced
        return replacement(network).eval().requires_grad_(False)
    ready = whole_copy(network).eval().requires_grad_(False)
    for layer in structured_layers(ready):
        replace_module(ready, layer, replacement(layer))
    ready = ready.eval().requires_grad_(False)
    try:
        without_norms = _fold_batch_norm(whole_copy(ready))
        return without_norms if _agree(ready, without_norms, input_size) else ready
    except Exception:  # a network that cannot be traced or folded runs unfolded
        return ready


def _agree(
    one: nn.Module, other: nn.Module, input_size: tuple[int, ...], tolerance: float | None = None
) -> bool:
    dtype = floating_dtype(one)
    device = next((p.device for p in one.parameters()), torch.device("cpu"))
    x = torch.randn(2, *input_size, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    arguments = task_of(one).arguments(x)
    with torch.no_grad():
        expected, found = (tree_leaves(network(*arguments)) for network in (one, other))
    return len(expected) == len(found) and all(
        _close(*pair, tolerance) for pair in zip(expected, found, strict=True)
    )


def _close(expected: object, found: object, tolerance: float | None) -> bool:
    if not isinstance(expected, torch.Tensor) or not isinstance(found, torch.Tensor):
        return False
    scale = expected.abs().max().clamp_min(1e-6)
    if tolerance is None:
        tolerance = 1e-3 if torch.finfo(expected.dtype).bits >= 32 else 5e-2
    return bool((found - expected).abs().max() <= tolerance * scale)


def _fold_batch_norm(network: nn.Module) -> nn.Module:
    """Folds batch norms in place where a trace shows a convolution directly before them.

    Both must run once, and the network must not read their parameters in any other way.
    """
    graph = fusing.Tracer().trace(whole_copy(network))  # tracing may change what it runs
    modules = dict(network.named_modules())
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    for node in graph.nodes:
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(before, fx.Node):
            continue
        if before.op != "call_module" or len(before.users) != 1:
            continue
        names = (str(before.target), str(node.target))
        conv, norm = (modules[name] for name in names)
        alone = all(called.count(name) == 1 and not _within(read, name) for name in names)
        if alone and type(norm) in _NORMS and _plain(conv, norm) and _fold(network, conv, norm):
            replace_module(network, norm, nn.Identity())
    return network


def _within(paths: set[str], name: str) -> bool:
    """Whether one of the paths is that of a module or of something inside it."""
    return any(path == name or path.startswith(f"{name}.") for path in paths)


def _fold(network: nn.Module, conv: nn.Module, norm: Any) -> bool:
    """Folds a batch norm into the module before it; returns whether that module can take it."""
    if isinstance(conv, StructuredConv):
        mean, variance = norm.running_mean, norm.running_var
        one = torch.ones_like(mean)[:, None]
        scale, shift = fuse_conv_bn_weights(
            one, None, mean, variance, norm.eps, norm.weight, norm.bias
        )
        return conv.scale_outputs(scale.detach().squeeze(1), shift.detach())
    if type(conv) not in _CONVOLUTIONS:
        return False
    replace_module(network, conv, fuse_conv_bn_eval(conv, norm))  # type: ignore[type-var]
    return True


def _plain(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether a norm is a fixed affine map, and neither module has forward hooks."""
    hooked = has_forward_hooks(conv) or has_forward_hooks(norm)
    return norm.running_mean is not None and not norm.training and not hooked


def to_memory_format(network: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    """Converts a network's weights to a memory layout in place, and returns the network."""
    return network.to(memory_format=memory_format)  # type: ignore[call-overload, no-any-return]
