"""Watching layers' outputs in a running network up to where they are read.

Networks call activations as modules, as functions and in place, so hooks alone do not see them. A
dispatch mode sees every operation: what a layer makes is followed through operations on single elements
(normalisations, sums, activations) to the first that is none of these, or to the next layer. What that
reads is the layer's activation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from seclcompress.torch_private import TorchDispatchMode, operator_name, tree_leaves

#: Where a value stands: a layer's own output, that behind a batch norm that reads it directly, or what
#: is read behind the activation.
Place = Literal["output", "batch norm", "read"]

#: Operations that are activations, by the names that people use.
ACTIVATIONS: Mapping[str, str] = {
    **{
        name: name
        for name in "celu clamp elu gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu maximum "
        "mish relu selu sigmoid silu softplus softshrink tanh threshold".split()
    },
    "_prelu_kernel": "prelu",
    "clamp_max": "clamp",
    "clamp_min": "clamp",
    "log_sigmoid_forward": "logsigmoid",
    "rrelu_with_noise": "rrelu",
}
_BATCH_NORMS = frozenset(
    """
    _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm miopen_batch_norm
    native_batch_norm
    """.split()
)
#: Operations that keep every element's place, and have no tag that says so.
_KEEP = frozenset(
    """
    _prelu_kernel _to_copy alias clone contiguous detach dropout hardswish log_sigmoid_forward
    native_dropout native_group_norm native_layer_norm rrelu_with_noise
    """.split()
)
#: Operations that take nothing but a shape, a dtype and a device from a tensor.
_MAKE = frozenset(
    """
    empty_like full_like new_empty new_empty_strided new_full new_ones new_zeros ones_like rand_like
    randn_like zeros_like
    """.split()
)
#: Operations on the places of each channel. Behind an activation they are what reads it.
_SPATIAL = frozenset(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d
    avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices upsample_bilinear2d
    upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    """.split()
)


class Call:
    """One call of a layer.

    Attributes:
        layer: The layer's name.
        axis: The dimension of its output that holds the channels, counted from the end.
        read: Whether what is read of it was seen.
    """

    def __init__(self, layer: str, axis: int) -> None:
        self.layer, self.axis, self.read = layer, axis, False


#: Told of a value: of which call, where it stands, and the last activation on the way, if any. The
#: value may be overwritten later.
See = Callable[[Call, Place, Tensor, "str | None"], object]
#: For each call that a tensor comes from, the operations on the way.
_Origins = dict[Call, tuple[str, ...]]


class Following(TorchDispatchMode):
    """Follows what layers make through a network.

    Args:
        layers: The layers by name, none inside another.
        axes: The dimension of each layer's output that holds the channels, counted from the end.
        see: Is told of values.
    """

    def __init__(self, layers: Mapping[str, nn.Module], axes: Mapping[str, int], see: See) -> None:
        super().__init__()
        self._layers, self._axes, self._see = layers, axes, see
        self._origins = WeakIdKeyDictionary()
        self._inside = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watches every run of the network in the block."""
        handles = []
        for name, layer in self._layers.items():
            handles.append(layer.register_forward_pre_hook(self._enter, with_kwargs=True))
            # Also where it raises, so that the depth is right for who goes on from there.
            handles.append(
                layer.register_forward_hook(self._leaving(name), with_kwargs=True, always_call=True)
            )
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, layer: nn.Module, args: Any, kwargs: Any) -> None:
        del layer
        self._inside += 1
        if self._inside == 1:
            for one in tree_leaves((args, kwargs)):
                self._is_read(one)

    def _leaving(self, name: str) -> Any:
        def hook(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            del layer, args, kwargs
            if self._inside == 1 and isinstance(output, Tensor):
                call = Call(name, self._axes[name])
                self._origins[output] = {call: ()}
                self._see(call, "output", output, None)
            self._inside -= 1

        return hook

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        if self._inside or not any(self._open(one) for one in given):
            return func(*args, **kwargs)
        name = operator_name(func).removeprefix("aten::").removesuffix("_")
        carried = self._carried(func, name, given)
        result = func(*args, **kwargs)
        first = next((one for one in tree_leaves(result) if isinstance(one, Tensor)), None)
        if first is None or not carried:
            return result
        if name in _BATCH_NORMS and len(carried) == 1:
            [(call, way)] = carried.items()
            if not way:
                self._see(call, "batch norm", first, None)
        self._origins[first] = {call: (*way, name) for call, way in carried.items()}
        return result

    def _carried(self, func: Any, name: str, given: list[Tensor]) -> _Origins:
        """What an operation hands on; of the rest, it is told that it is read."""
        if name in _MAKE:
            return {}
        normal = name in _BATCH_NORMS or name in _KEEP
        single = normal or torch.Tag.pointwise in func.tags
        if not single and name not in _SPATIAL:
            for one in given:
                self._is_read(one)
            return {}
        shape = given[0].shape if normal or not single else _broadcast(given)
        carried: _Origins = {}
        for one in given:
            for call, way in self._open(one).items():
                # Behind an activation, a pool is a reader; so is a product with a gate of each channel.
                if one.shape != shape or (not single and activation(way) is not None):
                    self._told(call, one, way)
                elif len(way) >= len(carried.get(call, ())):
                    carried[call] = way
        return carried

    def _open(self, value: object) -> _Origins:
        """The calls that a tensor comes from and that nothing has read yet."""
        found = self._origins.get(value) if isinstance(value, Tensor) else None
        return {call: way for call, way in (found or {}).items() if not call.read}

    def _is_read(self, value: object) -> None:
        for call, way in self._open(value).items():
            assert isinstance(value, Tensor)
            self._told(call, value, way)

    def _told(self, call: Call, value: Tensor, way: tuple[str, ...]) -> None:
        call.read = True
        self._inside += 1  # what is computed of it is none of the network's operations
        try:
            self._see(call, "read", value, activation(way))
        finally:
            self._inside -= 1


def activation(way: tuple[str, ...]) -> str | None:
    """The last activation among operations; None if there is none."""
    return next((ACTIVATIONS[name] for name in reversed(way) if name in ACTIVATIONS), None)


def _broadcast(given: list[Tensor]) -> torch.Size:
    try:
        return torch.broadcast_shapes(*(one.shape for one in given))
    except RuntimeError:  # not what its tag says
        return torch.Size([-1])
