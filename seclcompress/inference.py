"""A network made ready to be run and not to be trained: plain layers, batch norm folded away."""

from __future__ import annotations

import copy

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from seclcompress.rewrite import replace_module
from seclcompress.substitutions import StructuredConv

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def for_inference(network: nn.Module, execution: str = "auto") -> nn.Module:
    """A copy that computes the same in eval mode, faster.

    Layers that run dense become plain convolutions, those that run fast stay structured; batch norm
    behind a convolution is folded into it where torch.fx can see that nothing lies between them.

    Args:
        network: Any network; it stays as it is.
        execution: `dense`, `fast`, or `auto` for each layer's planned execution.

    Returns:
        A network in eval mode without gradients.
    """
    ready = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(ready.modules()):
        if isinstance(module, StructuredConv):
            runs = module.planned_execution if execution == "auto" else execution
            if runs == "dense":
                replace_module(ready, module, module.to_dense())
            else:
                module.execution = "fast"
    return _fold_batch_norm(ready.eval().requires_grad_(False))


class _Tracer(fx.Tracer):
    """Looks into everything but torch's own layers and ours."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, StructuredConv) or super().is_leaf_module(module, name)


def _fold_batch_norm(network: nn.Module) -> nn.Module:
    """Folds batch norms in place where a trace shows a convolution right before them."""
    try:
        graph = _Tracer().trace(network)
    except Exception:  # the network's control flow depends on values: it runs as it is
        return network
    modules = dict(network.named_modules())
    uses = [node.target for node in graph.nodes if node.op == "call_module"]
    for node in graph.nodes:
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(before, fx.Node):
            continue
        norm = modules[str(node.target)]
        conv = modules.get(str(before.target)) if before.op == "call_module" else None
        foldable = (
            isinstance(norm, _NORMS)
            and norm.track_running_stats
            and isinstance(conv, _CONVOLUTIONS)
            and len(before.users) == 1
            and uses.count(node.target) == uses.count(before.target) == 1
        )
        if foldable:
            assert conv is not None
            replace_module(network, conv, fuse_conv_bn_eval(conv, norm))  # type: ignore[type-var]
            replace_module(network, norm, nn.Identity())
    return network


def to_memory_format(network: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    """The network with its convolutions' weights in this layout."""
    return network.to(memory_format=memory_format)  # type: ignore[call-overload, no-any-return]
