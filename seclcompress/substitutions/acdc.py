"""SECL: a depthwise convolution and a stack of ACDC layers.

"Training Structured Efficient Convolutional Layers", 2018; ACDC: Moczulski et al., ICLR 2016.
"""

from __future__ import annotations

import contextlib
import math
from contextlib import AbstractContextManager
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from seclcompress import kernel
from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.stack import (
    apply_stack,
    stack_matrix,
    stack_mult_adds,
    stack_parameters,
    vector_cost,
)
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.shapes import FactoredPointwise, SplitConv, split_cost, white_gain
from seclcompress.substitutions.site import Convolution, Site
from seclcompress.transforms import next_fast_length, riffle

_WIDEST = 2**20


class AcdcConfig(SubstitutionConfig):
    """Options of the ACDC stack.

    Attributes:
        depth: ACDC layers L in a stack.
        extra_riffle: The research log's riffle between C and C⁻¹ (before D) in every layer.
        init: `signs`: independent random signs on A and D, an exactly orthogonal stack whose
            entries look Gaussian. `paper`: A, D ~ N(1, 0.01²), almost a channel permutation.
    """

    depth: int = Field(default=12, ge=1, le=1024)
    extra_riffle: bool = False
    init: Literal["signs", "paper"] = "signs"


class AcdcPointwise(FactoredPointwise):
    """A stack of ACDC layers on the channels.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        bias: The bias to start from, or None.
        a: The diagonals A to start from, shape (depth, N).
        d: The diagonals D to start from, shape (depth, N).
        extra_riffle: As in `AcdcConfig`.
    """

    executions = EXECUTIONS

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: Tensor | None,
        a: Tensor,
        d: Tensor,
        extra_riffle: bool,
    ) -> None:
        super().__init__(in_channels, out_channels, bias)
        self.a, self.d = nn.Parameter(a), nn.Parameter(d)
        self.extra_riffle = extra_riffle

    def make_weight(self) -> Tensor:
        """The stack multiplied out, shape (out_channels, in_channels)."""
        with _full_precision(self.a):
            a, d = _at_least_float32(self.a), _at_least_float32(self.d)
            matrix = stack_matrix(
                a, d, self.in_channels, self.out_channels, extra_riffle=self.extra_riffle
            )
            return matrix.to(self.a.dtype)

    def transform(self, x: Tensor) -> Tensor:
        """The stack by fast cosine transforms."""
        with _full_precision(x):
            a, d = _at_least_float32(self.a), _at_least_float32(self.d)
            y = apply_stack(x.to(a.dtype), a, d, self.out_channels, extra_riffle=self.extra_riffle)
            return y.to(x.dtype)

    def map_channels(self, x: Tensor) -> Tensor:
        """The stack at every position, by the operator where that gains something."""
        a, bias, scale = self.a, self.bias, self.output_scale
        if self.extra_riffle or not kernel.worthwhile(a.shape[1], x.dtype, a.device):
            return super().map_channels(x)
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        return kernel.acdc_stack(
            x,
            _in(wide, a),
            _in(wide, self.d),
            self.out_channels,
            None if bias is None else _in(wide, bias),
            scale=None if scale is None else _in(wide, scale),
        )

    def _fused(self, dtype: torch.dtype) -> bool:
        """Whether the fused kernel can run this stack on inputs of a dtype."""
        return not self.extra_riffle and kernel.supports(self.a.shape[1], dtype, self.a.device)

    def quickest_in_training(self, positions: int) -> str:
        """Whether to run the stack on the positions, or on a side of the identity to make W."""
        depth, length = self.a.shape
        vector = vector_cost(length, depth, fused=self._fused(self.a.dtype))
        narrower = min(self.in_channels, self.out_channels)
        matrix = narrower * vector + positions * self.in_channels * self.out_channels
        return "fast" if positions * vector < matrix else "dense"

    def factors(self) -> list[nn.Parameter]:
        """The diagonals."""
        return [self.a, self.d]

    def extra_repr(self) -> str:
        """Channels, depth and length."""
        depth, length = self.a.shape
        return f"{self.in_channels}, {self.out_channels}, depth={depth}, length={length}"


class AcdcSubstitution(Substitution):
    """Depthwise + stacked ACDC pointwise."""

    name = "acdc"
    title = "SECL"
    summary = "depthwise + a stack of ACDC layers: O(N) parameters, dense or by fast DCT"
    Config = AcdcConfig
    executions = EXECUTIONS

    def _refuse(self, site: Site, config: AcdcConfig) -> str | None:  # noqa: ARG002
        widest = _widest(site.convolution)
        if widest > _WIDEST:  # the search for a length would take for ever
            return f"it has {widest:,} channels; a stack takes at most {_WIDEST:,}"
        return None

    def cost(self, site: Site, config: AcdcConfig) -> LayerCost:
        """`k·c_in + 2NL` parameters; fast by the paper's `L(4N + 5N log₂ N)` a position."""
        conv = site.convolution
        length, widest = stack_length(conv), _widest(conv)
        padded = f"N is {length}, as {widest} has a large prime factor"
        return split_cost(
            site,
            stack_parameters(length, config.depth),
            {
                "dense": conv.in_channels * conv.out_channels,
                "fast": stack_mult_adds(length, config.depth),
            },
            note="" if length == widest else padded,
        )

    def _build(self, site: Site, config: AcdcConfig) -> SplitConv:
        conv = site.convolution
        length = stack_length(conv)
        shape = (2, config.depth, length)
        if conv.weight.is_meta:  # values that nobody will see, of a size that somebody's file says
            a, d = torch.empty(shape, dtype=conv.weight.dtype, device="meta")
            return _assemble(conv, config, a, d)
        if config.init == "signs":
            diagonals = torch.randint(0, 2, shape, dtype=torch.float64) * 2 - 1
        else:
            diagonals = 1 + 0.01 * torch.randn(shape, dtype=torch.float64)
        energy = _initial_energy(conv, length, config)
        # The gain is spread evenly over the 2L factors, so that none starts far from the others.
        diagonals *= (white_gain(conv) / math.sqrt(energy)) ** (1 / (2 * config.depth))
        a, d = diagonals.to(conv.weight.device, conv.weight.dtype).clone()
        return _assemble(conv, config, a, d)


def stack_length(conv: Convolution) -> int:
    """N: the larger channel count, or the next length without a large prime factor."""
    return next_fast_length(_widest(conv))


def _widest(conv: Convolution) -> int:
    return max(conv.in_channels, conv.out_channels)


def _assemble(conv: Convolution, config: AcdcConfig, a: Tensor, d: Tensor) -> SplitConv:
    pointwise = AcdcPointwise(
        conv.in_channels, conv.out_channels, conv.bias, a.clone(), d.clone(), config.extra_riffle
    )
    return SplitConv(conv, pointwise)


def _initial_energy(conv: Convolution, length: int, config: AcdcConfig) -> float:
    """The variance of an unscaled fresh stack's outputs for white input, `‖W‖² ÷ out_channels`."""
    if config.init == "paper" and not config.extra_riffle:
        # Almost the riffles alone: W counts which inputs land on which outputs.
        place = torch.arange(length)
        for _ in range(config.depth):
            place = riffle(place)
        pairs = (place % conv.in_channels) * conv.out_channels + (
            torch.arange(length) % conv.out_channels
        )
        counts = torch.unique(pairs, return_counts=True)[1]
        return float(counts.square().sum()) / conv.out_channels
    # An orthogonal matrix that looks random: every entry of W is a sum of
    # (N ÷ out)(N ÷ in) entries of variance 1/N.
    return length / conv.out_channels


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _in(dtype: torch.dtype, value: Tensor) -> Tensor:
    # .to() takes a microsecond to find that there is nothing to do, many times that in a cold cache.
    return value if value.dtype == dtype else value.to(dtype)


def _full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Autocast would multiply a dozen factors in half precision."""
    if tensor.is_meta:  # which knows no autocast
        return contextlib.nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)


SUBSTITUTION = AcdcSubstitution()
