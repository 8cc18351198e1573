"""The Mult-Adds of operations, and assumptions about outputs whose size depends on values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from seclcompress.torch_private import TorchDispatchMode, operator_name, overload_packet
from seclcompress.trace.model import Trace

#: Operations that count as zero: either they do not multiply and add up over a dimension of weights, or
#: they count as zero by convention (normalisation, pooling, activations). An operation that is neither
#: in this set nor counted is reported by name.
FREE_OPERATIONS = frozenset(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _local_scalar_dense _log_softmax
    _native_batch_norm_legit _native_batch_norm_legit_no_training _prelu_kernel _safe_softmax
    _softmax _to_copy _unsafe_index _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    abs add add_ alias all amax amin any arange argmax as_strided as_strided_ avg_pool2d
    avg_pool3d bernoulli bernoulli_ bitwise_and bitwise_not bitwise_or cat ceil celu clamp
    clamp_ clamp_min clone col2im constant_pad_nd contiguous copy_ cos cumsum detach div div_
    dropout elu empty empty_like eq erf exp expand eye fill fill_ flip floor full full_like
    gather ge gelu glu grid_sampler_2d grid_sampler_3d gt hardsigmoid hardsigmoid_ hardswish
    hardswish_ hardtanh hardtanh_ im2col index index_add index_fill index_fill_ index_put
    index_put_ index_select le leaky_relu leaky_relu_ lift_fresh linalg_vector_norm linspace log
    log1p log2 logical_and logical_not logical_or lt masked_fill max max_pool2d_with_indices
    max_pool3d_with_indices maximum mean min minimum mish mish_ mul mul_ native_batch_norm
    native_dropout native_group_norm native_layer_norm ne neg new_empty new_full new_ones
    new_zeros ones ones_like permute pixel_shuffle pixel_unshuffle pow prelu rand rand_like
    reciprocal reflection_pad1d reflection_pad2d reflection_pad3d relu relu_ remainder repeat
    replication_pad1d replication_pad2d replication_pad3d resize_ roi_align roll round rsqrt
    rsub scalar_tensor scatter scatter_add select select_scatter sigmoid sigmoid_ sign silu
    silu_ sin slice slice_scatter softplus sort split split_with_sizes sqrt squeeze stack sub
    sub_ sum t tanh tanh_ threshold topk transpose tril triu unbind unfold unsqueeze unsqueeze_
    upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d
    upsample_nearest2d upsample_nearest3d upsample_trilinear3d var var_mean view where zero_
    zeros zeros_like
    """.split()
)


def _all_of(x: Tensor, *rest: Any, **options: Any) -> Tensor:
    """`nonzero`: assumes that every element is nonzero."""
    del rest, options
    return x.new_empty(x.numel(), x.dim(), dtype=torch.int64)


def _all_boxes(boxes: Tensor, *rest: Any, **options: Any) -> Tensor:
    """Non-maximum suppression: assumes that every box is kept."""
    del rest, options
    return boxes.new_empty(len(boxes), dtype=torch.int64)


def _one_value(x: Tensor, *rest: Any, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """`unique`: assumes one value. Further values would only divide the same elements between them."""
    del rest, options
    indices = x.new_empty(x.shape, dtype=torch.int64)
    return x.new_empty(min(1, x.numel())), indices, x.new_empty(1, dtype=torch.int64)


def _masked(x: Tensor, mask: Tensor) -> Tensor:
    """`masked_select`: assumes that every element is selected."""
    return x.new_empty(torch.broadcast_shapes(x.shape, mask.shape).numel())


#: Functions that make an operation's assumed output on the meta device, where there are no values that
#: would determine its size.
LARGEST: Mapping[str, Callable[..., Any]] = {
    "aten::nonzero": _all_of,
    "torchvision::nms": _all_boxes,
    "aten::_unique2": _one_value,
    "aten::masked_select": _masked,
}


class Counting(TorchDispatchMode):
    """Counts the contractions that reach the dispatcher, by torch's own formulas.

    Args:
        running: Names of the modules that are running, innermost last.
        result: The trace that receives the counts.
    """

    def __init__(self, running: list[str], result: Trace) -> None:
        super().__init__()
        self.running, self.result = running, result

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one operation, or makes its assumed output, and counts it."""
        kwargs = kwargs or {}
        name = operator_name(func)
        if name in LARGEST and args[0].is_meta:
            self.result.assumed[name.partition("::")[2]] += 1
            return LARGEST[name](*args, **kwargs)
        if name == "aten::index" and args[0].is_meta:
            args = (args[0], self._without_masks(args[1]))
        formula = flop_registry.get(overload_packet(func))
        if formula is None:
            with self:  # a composite operation is counted by its parts
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        output = func(*args, **kwargs)
        name = name.partition("::")[2]
        if formula is not None:
            # torch counts a multiplication and an addition as two operations.
            self.result.mult_adds[self.running[-1]] += formula(*args, **kwargs, out_val=output) // 2
        elif name in FREE_OPERATIONS:
            self.result.uncounted[name] += 1
        else:
            self.result.unknown[name] += 1
        return output

    def _without_masks(self, indices: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Replaces each mask among indices by the indices of all its elements."""
        places: list[Tensor | None] = []
        for index in indices:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                self.result.assumed["index by a mask"] += 1
                places += _all_of(index).unbind(1)
            else:
                places.append(index)
        return places
