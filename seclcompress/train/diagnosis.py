"""Finds where values that are not finite first occur."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from seclcompress.torch_private import tree_leaves


def where_not_finite(network: nn.Module, passes: Iterable[Callable[[], object]]) -> str:
    """Says which weights, which layer's output or which gradient is not finite.

    Args:
        network: The network after a backward pass.
        passes: Functions that repeat the forward passes of the step.

    Returns:
        A sentence for an error message.
    """
    for name, parameter in network.named_parameters():
        if not bool(parameter.isfinite().all()):
            return f"The weights {name} are not finite."
    gradients = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all())
    ]
    for run in passes:
        layer = first_not_finite(network, run)
        if layer is not None:
            return f"The first layer whose output is not finite is {layer}."
    if gradients:
        return f"The last layer whose gradient is not finite is {gradients[-1]}."
    return "All layers' outputs are finite: it is the loss itself, or another process."


def first_not_finite(network: nn.Module, run: Callable[[], object]) -> str | None:
    """Finds the innermost module whose output is the first that is not finite.

    Args:
        network: The network whose modules are watched.
        run: Runs a forward pass of the network.

    Returns:
        The module's name and class; None if all outputs are finite.
    """
    found: list[str] = []

    def watch(name: str, module: nn.Module) -> object:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            tensors = [part for part in tree_leaves(output) if isinstance(part, Tensor)]
            finite = all(bool(tensor.isfinite().all()) for tensor in tensors)
            if not finite and not found:
                found.append(f"{name} ({type(module).__name__})")

        return module.register_forward_hook(hook)

    handles = [watch(name, module) for name, module in network.named_modules() if name]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
    return found[0] if found else None
