"""The Mult-Adds of operations, and assumptions about outputs whose size depends on values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from seclcompress.torch_private import (
    TorchDispatchMode,
    operator_name,
    overload_packet,
    tree_leaves,
)
from seclcompress.trace.formulas import FORMULAS
from seclcompress.trace.model import Trace

#: Operations that count as zero: either they do not multiply and add up over a dimension of weights, or
#: they count as zero by convention (normalisation, pooling, activations). An operation that is neither
#: in this set nor counted is reported by name.
FREE_OPERATIONS = frozenset(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _conj _embedding_bag_forward_only
    _fused_dropout _local_scalar_dense _log_softmax _native_batch_norm_legit
    _native_batch_norm_legit_no_training _pdist_forward _prelu_kernel _reshape_alias
    _safe_softmax _softmax _to_copy _unsafe_index _unsafe_view _upsample_bicubic2d_aa
    _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d _weight_norm_interface abs abs_ acos adaptive_max_pool2d
    adaptive_max_pool3d add add_ addcdiv addcdiv_ addcmul addcmul_ affine_grid_generator
    alias all amax amin aminmax angle any arange argmax argmin as_strided as_strided_ asin
    atan atan2 avg_pool1d avg_pool2d avg_pool3d bernoulli bernoulli_ bincount bitwise_and
    bitwise_not bitwise_or bitwise_xor bucketize cat ceil celu clamp clamp_ clamp_max
    clamp_min clone col2im complex constant_pad_nd contiguous copy copy_ cos cosh
    count_nonzero cumprod cumsum detach detach_ diagonal div div_ dropout elu elu_ embedding
    empty empty_like empty_permuted empty_strided eq equal erf erfinv exp exp_ expand expm1
    exponential_ eye fill fill_ flip floor floor_ floor_divide fmod frac full full_like
    fused_dropout gather ge gelu gelu_ glu grid_sampler_2d grid_sampler_3d gt hardshrink
    hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ hardtanh_backward histc
    hypot im2col imag index index_add index_copy index_fill index_fill_ index_put index_put_
    index_select isfinite isinf isnan kthvalue le leaky_relu leaky_relu_ lerp lift_fresh
    linalg_vector_norm linspace log log10 log1p log2 log_sigmoid_forward logaddexp
    logical_and logical_not logical_or logical_xor logit logspace logsumexp lt masked_fill
    masked_fill_ masked_scatter max max_pool1d max_pool2d_with_indices
    max_pool3d_with_indices maximum mean median min minimum mish mish_ mul mul_ multinomial
    nan_to_num nanmean nansum native_batch_norm native_channel_shuffle native_dropout
    native_group_norm native_layer_norm ne neg neg_ new_empty new_full new_ones new_zeros
    norm normal normal_ ones ones_like permute pixel_shuffle pixel_unshuffle polar pow pow_
    prelu prod rand rand_like randint randn randn_like randperm real reciprocal reciprocal_
    reflection_pad1d reflection_pad2d reflection_pad3d relu relu_ remainder repeat
    repeat_interleave replication_pad1d replication_pad2d replication_pad3d resize_
    roi_align roll rot90 round round_ rrelu_with_noise rsqrt rsqrt_ rsub scalar_tensor
    scatter scatter_ scatter_add scatter_reduce searchsorted select select_scatter set_ sgn
    sigmoid sigmoid_ sign silu silu_ sin sinh slice slice_scatter softplus softshrink sort
    split split_with_sizes sqrt sqrt_ square squeeze squeeze_ stack std std_mean sub sub_
    sum t t_ tan tanh tanh_ threshold topk transpose transpose_ tril tril_indices triu
    triu_indices trunc unbind unfold uniform uniform_ unsafe_split unsafe_split_with_sizes
    unsqueeze unsqueeze_ upsample_bicubic2d upsample_bilinear2d upsample_linear1d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d var
    var_mean view view_as_complex view_as_real where xlogy zero_ zeros zeros_like
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


def makers_of(values: object) -> frozenset[str]:
    """The modules whose products became these tensors; see `Trace.makers`."""
    found: set[str] = set()
    for value in tree_leaves(values):
        if isinstance(value, Tensor):
            found |= getattr(value, _MAKERS, frozenset())
    return frozenset(found)


def _made_by(makers: frozenset[str], output: Any) -> Any:
    """Notes on every tensor of an output which modules made it."""
    if makers:
        for value in tree_leaves(output):
            if isinstance(value, Tensor):
                setattr(value, _MAKERS, makers)
    return output


_MAKERS = "_seclcompress_makers"


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
            return _made_by(makers_of(args), LARGEST[name](*args, **kwargs))
        if name == "aten::index" and args[0].is_meta:
            args = (args[0], self._without_masks(args[1]))
        formula = flop_registry.get(overload_packet(func))
        own = FORMULAS.get(name)
        if formula is None and own is None:
            with self:  # a composite operation is counted by its parts
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        output = func(*args, **kwargs)
        name = name.partition("::")[2]
        multiplies = formula is not None or own is not None
        makers = frozenset({self.running[-1]}) if multiplies else makers_of((args, kwargs))
        _made_by(makers, output)
        if formula is not None:
            # torch counts a multiplication and an addition as two operations.
            self.result.mult_adds[self.running[-1]] += formula(*args, **kwargs, out_val=output) // 2
        elif own is not None:
            self.result.mult_adds[self.running[-1]] += own(*args, **kwargs, out=output)
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
