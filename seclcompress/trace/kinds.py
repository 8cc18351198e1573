"""Kinds of modules that cannot be traced, and why a forward pass may have failed, in words."""

from __future__ import annotations

import inspect

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import UninitializedParameter

from seclcompress.networks.tasks import Task, task_of
from seclcompress.torch_private import ConvNd

_STRIDES = "Give another size with --input-size; a network needs one larger than its total stride."


def reason_not_to_trace(network: nn.Module) -> str | None:
    """A sentence that tells what a network is, and what to give instead; None if it can be traced."""
    kind = type(network).__name__
    if isinstance(network, DataParallel | DistributedDataParallel):
        return f"The network is wrapped in {kind}. Give what is inside: its .module."
    if isinstance(network, torch.jit.ScriptModule):
        return (
            "The network is a TorchScript program, whose layers can be neither counted nor replaced. "
            "Give the nn.Module that it was made from."
        )
    if isinstance(network, torch.fx.GraphModule) and _is_exported(network):
        return (
            "The network is a program of torch.export, whose layers are no modules any more. Give the "
            "nn.Module that it was made from."
        )
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            return (
                f"{name} is a TorchScript program, whose layers can be neither counted nor replaced. "
                "Put the nn.Module in its place that it was made from."
            )
        for parameter in module.parameters(recurse=False):
            if isinstance(parameter, UninitializedParameter):
                return (
                    f"{name} is a {type(module).__name__}, which has no size yet. Run the network once "
                    "on an image before you give it, in the factory that makes it."
                )
    return None


def _is_exported(network: torch.fx.GraphModule) -> bool:
    # torch.export marks what its `.module()` returns in this way only: its eval() and train() raise.
    return getattr(network.eval, "__func__", None) is not nn.Module.eval


def advice_on(network: nn.Module, input_size: tuple[int, ...]) -> str:
    """What may help after a forward pass at this input size, (channels, *spatial), has failed."""
    if type(task_of(network)) is not Task:
        return _STRIDES
    first = next((m for m in network.modules() if isinstance(m, ConvNd)), None)
    if first is not None and first.in_channels != input_size[0]:
        wanted = "x".join(map(str, (first.in_channels, *input_size[1:])))
        return f"Its first convolution takes {first.in_channels} channels: --input-size {wanted}."
    needed = [
        parameter
        for parameter in inspect.signature(network.forward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > 1:
        names = ", ".join(parameter.name for parameter in needed)
        return (
            f"Its forward takes {len(needed)} arguments ({names}); a network is called with one tensor "
            "of images here. Wrap it in a module that makes the others."
        )
    return _STRIDES
