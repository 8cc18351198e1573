"""Copies of networks for a trial run, so that whatever a forward pass stores is stored in the copy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def copied_network(network: nn.Module, device: torch.device | None = None) -> nn.Module:
    """Copies a network; the copy shares its parameters, or has none of their values.

    A forward pass may store what it computes (anchors, grids, positions) in plain attributes, and change
    buffers; all that happens to the copy.

    Args:
        network: The network. It stays as it is.
        device: The meta device, for parameters and buffers without values; otherwise parameters are
            shared, and buffers are copied, where they are.
    """
    on_meta = device is not None and device.type == "meta"
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.to("meta"), False) if on_meta else parameter
    for buffer in network.buffers():
        memo[id(buffer)] = buffer.detach().to("meta") if on_meta else buffer.detach().clone()
    return _copied(network, memo)


def whole_copy(network: nn.Module) -> nn.Module:
    """Copies a network with all its values, also where it keeps tensors that a graph made."""
    return _copied(network, {})


def _copied(network: nn.Module, memo: dict[int, Any]) -> nn.Module:
    for module in network.modules():
        for tensor in _tensors(vars(module), 0):
            # torch copies no tensor that a graph made: the last output that a network keeps, or a
            # weight that is made from others.
            if not tensor.is_leaf:
                memo.setdefault(id(tensor), tensor.detach().clone())
    return copy.deepcopy(network, memo)


_DEEPEST = 4


def _tensors(value: object, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth < _DEEPEST:
        inside: list[object] = []
        if isinstance(value, dict):
            inside = [*value.values()]
        elif isinstance(value, list | tuple | set):
            inside = [*value]
        for item in inside:
            yield from _tensors(item, depth + 1)
