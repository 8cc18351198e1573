"""Labels of a network's tensors: for each element, the atom of the channel that it belongs to.

A tensor's labels are a tensor of the same shape. So whatever rearranges elements (a view, a slice, a
concatenation, a shuffle) rearranges labels by the same operation, and needs no rule. Most labels do not
depend on the image's places; they are kept as expanded tensors, which hold one value for all places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from seclcompress.graph.atoms import Atoms
from seclcompress.torch_private import operator_name, tree_leaves

#: Operations that rearrange elements, or copy them.
_REARRANGE = frozenset(
    """
    _reshape_alias _to_copy _unsafe_view alias cat clone constant_pad_nd contiguous detach expand flip
    index_select lift_fresh native_channel_shuffle permute pixel_shuffle pixel_unshuffle reflection_pad2d
    repeat replication_pad2d roll rot90 select slice split split_with_sizes squeeze stack t transpose
    unbind unsafe_split unsafe_split_with_sizes unsqueeze view
    """.split()
)
#: Operations whose result has a value for each element, and that have no tag that says so.
_POINTWISE = frozenset(
    """
    bernoulli_ empty_like full_like hardswish hardswish_ log_sigmoid_forward native_dropout ones_like
    rand_like randn_like rrelu_with_noise zeros_like
    """.split()
)
#: Operations on the places of each channel: (batch, channels, *spatial) before and after.
_SPATIAL = frozenset(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices
    max_pool3d_with_indices upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d
    upsample_nearest2d upsample_nearest3d upsample_trilinear3d
    """.split()
)
#: Operations that take nothing but a dtype and a device from a tensor.
_MAKE = frozenset("new_empty new_empty_strided new_full new_ones new_zeros".split())
_REDUCE = frozenset("amax amin mean sum".split())
_SOFTMAX = frozenset("_log_softmax _safe_softmax _softmax".split())


class Labels:
    """The labels of all tensors of a run, and how operations hand them on."""

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = atoms
        self._labels = WeakIdKeyDictionary()

    def of(self, tensor: Tensor) -> Tensor | None:
        """A tensor's labels; None if no element belongs to a channel."""
        found: Tensor | None = self._labels.get(tensor)
        return found

    def put(self, tensor: Tensor, labels: Tensor | None) -> None:
        """Notes a tensor's labels."""
        if labels is not None:
            self._labels[tensor] = squeezed(labels)
        elif tensor in self._labels:
            del self._labels[tensor]

    def follow(
        self, operator: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any
    ) -> None:
        """Hands labels on from an operation's arguments to its result.

        An operation that is not known to leave channels as they are fixes them.
        """
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        name = operator_name(operator).removeprefix("aten::")
        if name in _MAKE or all(self.of(one) is None for one in tensors):
            return
        results = [one for one in tree_leaves(result) if isinstance(one, Tensor)]
        if name in _REARRANGE:
            self._rearranged(operator, name, args, kwargs, results)
        elif name in _POINTWISE or torch.Tag.pointwise in operator.tags:
            self._pointwise(name, tensors, results)
        elif name in _SPATIAL:
            self._spatial(name, tensors[0], results)
        elif name in _REDUCE:
            self._reduced(name, args, kwargs, results[0])
        elif name in _SOFTMAX:
            self._along(name, tensors[0], [int(args[1])], results)
        elif name == "native_layer_norm":
            last = len(args[1])
            self._along("LayerNorm", tensors[0], list(range(-last, 0)), results[:1])
        else:
            self._fixed(tensors, f"{name} is not known to leave channels as they are", results)

    def _fixed(self, tensors: Sequence[Tensor], reason: str, results: Sequence[Tensor]) -> None:
        for tensor in tensors:
            labels = self.of(tensor)
            if labels is not None:
                self.atoms.fix(compact(labels), reason)
        for one in results:
            self.put(one, None)

    def _rearranged(
        self,
        operator: Any,
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        results: Sequence[Tensor],
    ) -> None:
        def labels_of(value: Any) -> Any:
            if isinstance(value, Tensor):
                found = self.of(value)
                if found is None and value.dtype != torch.int64:
                    found = torch.zeros((), dtype=torch.int64).expand(value.shape)
                return value if found is None else found
            if isinstance(value, list | tuple):
                return [labels_of(one) for one in value]
            return value

        own = [labels_of(value) for value in args]
        if name in ("view", "_unsafe_view", "_reshape_alias"):
            new: Any = own[0].reshape(results[0].shape)
        elif name == "cat":
            new = _concatenated(own[0], int(args[1]) if len(args) > 1 else 0)
        elif name in ("clone", "_to_copy", "contiguous", "detach", "alias", "lift_fresh"):
            new = own[0]
        else:
            try:
                new = operator(*own, **kwargs)
            except (RuntimeError, NotImplementedError):  # not for integers, or it needs values
                self._fixed(
                    [one for one in tree_leaves(args) if isinstance(one, Tensor)], name, results
                )
                return
        for one, labels in zip(results, tree_leaves(new), strict=True):
            self.put(one, labels)

    def _pointwise(self, name: str, tensors: Sequence[Tensor], results: Sequence[Tensor]) -> None:
        shape = results[0].shape
        spread = {one: labels.expand(shape) for one, labels in self._labelled(tensors)}
        along = [
            dimension
            for dimension in range(len(shape))
            if any(_varies(labels, dimension) for labels in spread.values())
        ]
        whole: Tensor | None = None
        for one, labels in spread.items():
            if not all(
                _size(one, dimension, len(shape)) == shape[dimension] for dimension in along
            ):
                # One channel (a gate for each place) joins all: it says nothing of them.
                self.atoms.fix(compact(labels), f"{name} spreads it over other channels")
            elif whole is None:
                whole = labels
            else:
                self.atoms.unite(*_alike(whole, labels), f"{name} joins it with no channel")
        for one in tensors:
            own_width = any(_size(one, dimension, len(shape)) > 1 for dimension in along)
            if whole is not None and one not in spread and own_width:
                self.atoms.fix(compact(whole), f"{name} joins it with a tensor of fixed width")
        for result in results:
            self.put(result, whole if result.shape == shape else None)

    def _labelled(self, tensors: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        found = [(one, self.of(one)) for one in tensors]
        return [(one, labels) for one, labels in found if labels is not None]

    def _spatial(self, name: str, tensor: Tensor, results: Sequence[Tensor]) -> None:
        labels = self.of(tensor)
        if labels is None:
            return
        places = range(2, labels.dim()) if labels.dim() == results[0].dim() else ()
        if labels.dim() < 3 or any(_varies(labels, dimension) for dimension in places):
            self._fixed([tensor], f"{name} runs over it", results)
            return
        for dimension in places:
            labels = labels.narrow(dimension, 0, 1)
        for one in results:
            self.put(one, labels.expand(one.shape))

    def _reduced(
        self, name: str, args: Sequence[Any], kwargs: dict[str, Any], result: Tensor
    ) -> None:
        tensor = args[0]
        labels = self.of(tensor)
        if labels is None:
            return
        given = args[1] if len(args) > 1 else kwargs.get("dim")
        listed = [given] if isinstance(given, int) else list(given or range(labels.dim()))
        dimensions = sorted({one % labels.dim() for one in listed}, reverse=True)
        if any(_varies(labels, one) for one in dimensions):
            self._fixed([tensor], f"{name} runs over it", [result])
            return
        keep = result.dim() == labels.dim()
        for one in dimensions:
            labels = labels.narrow(one, 0, 1) if keep else labels.select(one, 0)
        self.put(result, labels)

    def _along(
        self, name: str, tensor: Tensor, dimensions: list[int], results: Sequence[Tensor]
    ) -> None:
        labels = self.of(tensor)
        if labels is None or any(_varies(labels, one) for one in dimensions):
            self._fixed([tensor], f"{name} runs over it", results)
            return
        for one in results:
            self.put(one, labels)


def _varies(labels: Tensor, dimension: int) -> bool:
    return labels.shape[dimension] > 1 and labels.stride(dimension) != 0


def squeezed(labels: Tensor) -> Tensor:
    """Labels with a stride of zero along each dimension in which they are all the same."""
    shape = labels.shape
    for dimension in range(labels.dim()):
        if _varies(labels, dimension):
            first = labels.narrow(dimension, 0, 1)
            if bool((labels == first).all()):
                labels = first.expand(labels.shape)
    return labels.expand(shape)


def compact(labels: Tensor) -> Tensor:
    """Labels without what is repeated along dimensions of stride zero."""
    for dimension in range(labels.dim()):
        if labels.shape[dimension] > 1 and labels.stride(dimension) == 0:
            labels = labels.narrow(dimension, 0, 1)
    return labels


def _alike(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors of labels of one shape, without the dimensions along which both are repeated."""
    for dimension in range(one.dim()):
        if not _varies(one, dimension) and not _varies(other, dimension):
            one, other = one.narrow(dimension, 0, 1), other.narrow(dimension, 0, 1)
    return one, other


def _concatenated(parts: Sequence[Tensor], dimension: int) -> Tensor:
    """`torch.cat` of labels, along whose other dimensions nothing is written out that is repeated."""
    parts = [part for part in parts if part.numel() > 0]
    dimension %= parts[0].dim()
    shape = list(parts[0].shape)
    shape[dimension] = sum(part.shape[dimension] for part in parts)
    for other in range(len(shape)):
        if other != dimension and not any(_varies(part, other) for part in parts):
            parts = [part.narrow(other, 0, 1) for part in parts]
    return torch.cat(list(parts), dimension).expand(shape)


def _size(tensor: Tensor, dimension: int, dimensions: int) -> int:
    """A tensor's size along a dimension of the result that it is broadcast to."""
    own = dimension - (dimensions - tensor.dim())
    return tensor.shape[own] if own >= 0 else 1
