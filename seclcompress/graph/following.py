"""Running a network once, on no values, to see where the channels of its layers meet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seclcompress.graph.atoms import FIXED, Atoms
from seclcompress.graph.labels import Labels, compact, squeezed
from seclcompress.narrowing import can_narrow, channel_axis, groups_of, widths_of
from seclcompress.networks.tasks import task_of
from seclcompress.torch_private import ConvNd, TorchDispatchMode, own_parameters, tree_leaves
from seclcompress.trace import copied_network, floating_dtype, products_in_sight

#: A layer's labels at its inputs and at its outputs.
Sides = tuple[Tensor, Tensor]


class Followed:
    """What one run, or several, saw of a network's layers.

    Attributes:
        atoms: The channels that belong together.
        sides: Labels of inputs and outputs by the layer's name.
    """

    def __init__(
        self, atoms: Atoms | None = None, sides: Mapping[str, Sides] | None = None
    ) -> None:
        self.atoms = atoms or Atoms()
        self.sides: dict[str, Sides] = dict(sides or {})

    def bind(self, name: str, layer: nn.Module, inputs: Tensor) -> Tensor:
        """Binds a layer's inputs to labels, and returns the labels of its outputs."""
        if name in self.sides:
            known, outputs = self.sides[name]
            self.atoms.unite(known, inputs, f"{name} also runs on other channels")
            return outputs
        groups = groups_of(layer)
        if isinstance(layer, (ConvNd, nn.Linear)):
            outputs = self.atoms.new(widths_of(layer)[1])
        else:
            outputs = inputs
        if groups > 1 and isinstance(layer, ConvNd):
            self._join_groups(name, inputs, outputs, groups)
        self.sides[name] = inputs, outputs
        return outputs

    def _join_groups(self, name: str, inputs: Tensor, outputs: Tensor, groups: int) -> None:
        for ins, outs in zip(inputs.chunk(groups), outputs.chunk(groups), strict=True):
            whole = torch.cat([ins, outs])
            self.atoms.unite(whole, whole[:1].expand(len(whole)), f"{name} has groups of it")


def follow(
    network: nn.Module, input_size: tuple[int, ...], followed: Followed, *, train: bool
) -> None:
    """Runs a copy of a network without values and adds what is seen to `followed`.

    Args:
        network: The network; it stays as it is.
        input_size: (channels, *spatial).
        followed: What is known already. It is changed.
        train: Whether to run as in training, on two images; else as in eval mode, on one.

    Raises:
        ConflictError: If `followed` is frozen, and other channels meet.
        Exception: Whatever the network raises.
    """
    device = torch.device("meta")
    network = copied_network(network, device).train(train)
    image = torch.zeros(
        2 if train else 1, *input_size, dtype=floating_dtype(network), device=device
    )
    task = task_of(network)
    labels = Labels(followed.atoms)
    mode = _Following(network, labels, followed)
    with (
        torch.random.fork_rng(devices=[]),
        task.without_values(network),
        products_in_sight(),
        mode.watching(),
        torch.no_grad(),
        mode,
    ):
        output = network(*task.arguments(image))
    for one in tree_leaves(output):
        found = labels.of(one) if isinstance(one, Tensor) else None
        if found is not None:
            followed.atoms.fix(compact(found), "it is an output of the network")
    mode.fix_read_elsewhere()


class _Following(TorchDispatchMode):
    def __init__(self, network: nn.Module, labels: Labels, followed: Followed) -> None:
        super().__init__()
        self.labels = labels
        self.followed = followed
        self.inside = 0
        self.layers = {
            name: module for name, module in network.named_modules() if can_narrow(module)
        }
        self.owners: dict[int, list[str]] = {}
        for name, module in self.layers.items():
            for parameter in own_parameters(module).values():
                if parameter is not None:
                    self.owners.setdefault(id(parameter), []).append(name)
        self.read = {name for names in self.owners.values() if len(names) > 1 for name in names}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self.inside:
            for one in tree_leaves((args, kwargs)):
                self.read.update(self.owners.get(id(one), ()))
            self.labels.follow(func, args, kwargs, result)
        return result

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Treats the layers that can be narrowed as wholes, by what each does with channels."""
        handles = []
        for name, module in self.layers.items():
            handles.append(module.register_forward_pre_hook(self._enter))
            handles.append(module.register_forward_hook(self._leaving(name), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        del module, args
        self.inside += 1

    def _leaving(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self.inside -= 1
            given = next(iter((*args, *kwargs.values())))
            labels = self.labels.of(given)
            axis = _channel_axis(module, given)
            if labels is None:
                labels = torch.full((), FIXED).expand(given.shape)
            inputs = _along(labels, axis)
            if inputs is None:
                self.followed.atoms.fix(compact(labels), f"{name} sees it mixed with others")
                inputs = torch.full((given.shape[axis],), FIXED)
            outputs = self.followed.bind(name, module, inputs)
            shape = [1] * output.dim()
            shape[axis] = len(outputs)
            self.labels.put(output, outputs.reshape(shape).expand(output.shape))

        return hook

    def fix_read_elsewhere(self) -> None:
        """Fixes the layers whose parameters another module reads, or shares."""
        for name in self.read & self.followed.sides.keys():
            for labels in self.followed.sides[name]:
                self.followed.atoms.fix(labels, f"the weights of {name} are used elsewhere as well")


def _channel_axis(layer: nn.Module, given: Tensor) -> int:
    """The dimension of a layer's input that holds its channels, counted from the end."""
    if isinstance(layer, ConvNd | nn.Linear):
        return channel_axis(layer)
    return 1 - given.dim()  # (batch, channels, …)


def _along(labels: Tensor, axis: int) -> Tensor | None:
    """The labels along one dimension; None if they are not the same at all other places."""
    labels = squeezed(labels)
    for dimension in range(labels.dim()):
        if dimension == labels.dim() + axis or labels.shape[dimension] == 1:
            continue
        if labels.stride(dimension) != 0:
            return None
        labels = labels.narrow(dimension, 0, 1)
    return labels.flatten().clone()
