"""SECL: a depthwise convolution followed by a stack of ACDC layers.

SECL: "Training Structured Efficient Convolutional Layers", 2018. ACDC: Moczulski et al., ICLR 2016.
"""

from __future__ import annotations

import math
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
from seclcompress.substitutions.shapes.precision import without_autocast
from seclcompress.substitutions.site import Convolution, Site
from seclcompress.transforms import next_fast_length, riffle

_WIDEST = 2**20


class AcdcConfig(SubstitutionConfig):
    """Options of the ACDC stack.

    Attributes:
        depth: Number L of ACDC layers in the stack.
        extra_riffle: Adds the research log's riffle between C and C⁻¹ (before D) to every layer.
        init: Initial values of A and D. `signs`: independent random signs, which make the stack
            exactly orthogonal, with entries that look Gaussian. `paper`: A, D ~ N(1, 0.01²), which
            makes the stack almost a channel permutation.
    """

    depth: int = Field(default=12, ge=1, le=1024)
    extra_riffle: bool = False
    init: Literal["signs", "paper"] = "signs"


class AcdcPointwise(FactoredPointwise):
    """A stack of ACDC layers that maps the channels at every position.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        bias: The initial bias, or None.
        a: The initial diagonals A, shape (depth, N).
        d: The initial diagonals D, shape (depth, N).
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
        """Multiplies the stack out to a matrix of shape (out_channels, in_channels)."""
        with without_autocast(self.a):
            a, d = _at_least_float32(self.a), _at_least_float32(self.d)
            matrix = stack_matrix(
                a, d, self.in_channels, self.out_channels, extra_riffle=self.extra_riffle
            )
            return matrix.to(self.a.dtype)

    def transform(self, x: Tensor) -> Tensor:
        """Applies the stack to vectors by fast cosine transforms."""
        with without_autocast(x):
            a, d = _at_least_float32(self.a), _at_least_float32(self.d)
            y = apply_stack(x.to(a.dtype), a, d, self.out_channels, extra_riffle=self.extra_riffle)
            return y.to(x.dtype)

    def map_channels(self, x: Tensor) -> Tensor:
        """Applies the stack at every position, with the fused operator where that is worthwhile."""
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
        """Returns the execution that makes a training step cheaper.

        `fast` runs the stack on all positions. `dense` runs it on the narrower side of the identity,
        which makes W, and multiplies W with all positions.
        """
        depth, length = self.a.shape
        vector = vector_cost(length, depth, fused=self._fused(self.a.dtype))
        narrower = min(self.in_channels, self.out_channels)
        matrix = narrower * vector + positions * self.in_channels * self.out_channels
        return "fast" if positions * vector < matrix else "dense"

    def factors(self) -> list[nn.Parameter]:
        """The diagonals A and D."""
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
        if widest > _WIDEST:  # the search for a fast length would take too long
            return f"it has {widest:,} channels; a stack takes at most {_WIDEST:,}"
        return None

    def cost(self, site: Site, config: AcdcConfig) -> LayerCost:
        """`k·c_in + 2NL` parameters; `fast` takes the paper's `L(4N + 5N log₂ N)` per position."""
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
        if conv.weight.is_meta:  # needs no values, and a stranger's file may ask for a huge stack
            a, d = torch.empty(shape, dtype=conv.weight.dtype, device="meta")
            return _assemble(conv, config, a, d)
        if config.init == "signs":
            diagonals = torch.randint(0, 2, shape, dtype=torch.float64) * 2 - 1
        else:
            diagonals = 1 + 0.01 * torch.randn(shape, dtype=torch.float64)
        energy = _initial_energy(conv, length, config)
        # The gain is spread evenly over the 2L diagonals, so that all start with similar values.
        diagonals *= (white_gain(conv) / math.sqrt(energy)) ** (1 / (2 * config.depth))
        a, d = diagonals.to(conv.weight.device, conv.weight.dtype).clone()
        return _assemble(conv, config, a, d)


def stack_length(conv: Convolution) -> int:
    """N: the larger channel count, rounded up to a length without large prime factors."""
    return next_fast_length(_widest(conv))


def _widest(conv: Convolution) -> int:
    return max(conv.in_channels, conv.out_channels)


def _assemble(conv: Convolution, config: AcdcConfig, a: Tensor, d: Tensor) -> SplitConv:
    pointwise = AcdcPointwise(
        conv.in_channels, conv.out_channels, conv.bias, a.clone(), d.clone(), config.extra_riffle
    )
    return SplitConv(conv, pointwise)


def _initial_energy(conv: Convolution, length: int, config: AcdcConfig) -> float:
    """The variance of an unscaled, untrained stack's outputs for white input, `‖W‖² ÷ out_channels`."""
    if config.init == "paper" and not config.extra_riffle:
        # A and D are almost 1, so the stack is almost its riffles alone: each entry of W counts how
        # often `expand`, the riffles and `fold` take that input to that output.
        place = torch.arange(length)
        for _ in range(config.depth):
            place = riffle(place)
        pairs = (place % conv.in_channels) * conv.out_channels + (
            torch.arange(length) % conv.out_channels
        )
        counts = torch.unique(pairs, return_counts=True)[1]
        return float(counts.square().sum()) / conv.out_channels
    # The entries of a random-looking orthogonal N×N matrix have variance 1/N. `expand` and `fold`
    # make every entry of W the sum of (N ÷ out)(N ÷ in) of them.
    return length / conv.out_channels


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _in(dtype: torch.dtype, value: Tensor) -> Tensor:
    # Even where there is nothing to convert, .to() takes a microsecond, and far more in a cold cache.
    return value if value.dtype == dtype else value.to(dtype)


SUBSTITUTION = AcdcSubstitution()
