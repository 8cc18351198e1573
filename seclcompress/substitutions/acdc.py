"""SECL: a depthwise convolution followed by a stack of ACDC layers.

SECL: "Training Structured Efficient Convolutional Layers", 2018. ACDC: Moczulski et al., ICLR 2016.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from seclcompress import kernel
from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.stack import apply_stack, stack_matrix
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.shapes import SplitConv, split_cost
from seclcompress.substitutions.shapes.diagonal_filters import (
    DiagonalFilters,
    filter_parameters,
    refuse_filters,
)
from seclcompress.substitutions.shapes.permutation import PermutationKind, check_seed
from seclcompress.substitutions.shapes.precision import (
    at_least_float32,
    wide_dtype,
    without_autocast,
)
from seclcompress.substitutions.shapes.spectral import Form, Order, SpectralPointwise
from seclcompress.substitutions.shapes.spectral_start import Init, initial_factors
from seclcompress.substitutions.site import Convolution, Site


class AcdcConfig(SubstitutionConfig):
    """Options of the ACDC stack.

    Attributes:
        depth: Number L of ACDC layers in the stack.
        extra_riffle: Adds the research log's riffle between C and C⁻¹ (before D) to every layer.
        init: Initial values of A and D. `signs`: independent random signs, which make the stack
            exactly orthogonal, with entries that look Gaussian. `paper`: A, D ~ N(1, 0.01²), which
            makes the stack almost a channel permutation.
        permutation: What permutes the channels behind every layer: the riffle, a fixed random
            permutation, the same in every layer, or nothing. The fused kernel knows the riffle.
        permutation_seed: The seed of `permutation=random`.
        inverse_riffle: Inverts all permutations. So the authors' layers on vectors (`LinearACDC`) have
            it.
        order: The order of a layer's factors: `acdc` is A C D C⁻¹ P, as in the paper; `transposed` is
            P C D C⁻¹ A, as in the authors' later code (`ConvACDC`).
        block: The size b of the blocks of A and D, which are diagonals for b = 1. 2NLb parameters.
        depthwise: The filters before the stack: `full`, or `acdc`, which makes each k × k filter
            from 2k numbers (SECL-LR).
    """

    depth: int = Field(default=12, ge=1, le=1024)
    extra_riffle: bool = False
    init: Init = "signs"
    permutation: PermutationKind = "riffle"
    permutation_seed: int = Field(default=0, ge=0, lt=2**32)
    inverse_riffle: bool = False
    order: Order = "acdc"
    block: int = Field(default=1, ge=1, le=1024)
    depthwise: Literal["full", "acdc"] = "full"

    @model_validator(mode="after")
    def _seed_of_something(self) -> Self:
        check_seed(self.permutation, self.permutation_seed)
        return self

    @classmethod
    def ladder(cls) -> tuple[dict[str, Any], ...]:
        """Stacks of 1 to 16 layers."""
        return tuple({"depth": depth} for depth in (1, 2, 3, 4, 6, 8, 12, 16))

    def form(self) -> Form:
        """What the layers of the stack look like."""
        return Form(
            depth=self.depth,
            block=self.block,
            order=self.order,
            permutation=self.permutation,
            permutation_seed=self.permutation_seed,
            extra_riffle=self.extra_riffle,
            inverse_riffle=self.inverse_riffle,
        )


class AcdcPointwise(SpectralPointwise):
    """A stack of ACDC layers that maps the channels at every position.

    The stack of the paper, and that with the log's extra riffle, run by `seclcompress.stack`, and in the
    fused kernel where it can; other forms as any `SpectralPointwise`.
    """

    def make_weight(self) -> Tensor:
        """Multiplies the stack out to a matrix of shape (out_channels, in_channels)."""
        if not self.form.is_papers or self.multiplies_in_pairs():
            return super().make_weight()
        with without_autocast(self.a):
            a, d = at_least_float32(self.a), at_least_float32(self.d)
            extra = self.form.extra_riffle
            matrix = stack_matrix(a, d, self.in_channels, self.out_channels, extra_riffle=extra)
            return matrix.to(self.a.dtype)

    def transform(self, x: Tensor) -> Tensor:
        """Applies the stack to vectors by fast cosine transforms."""
        if not self.form.is_papers:
            return super().transform(x)
        with without_autocast(x):
            a, d = at_least_float32(self.a), at_least_float32(self.d)
            extra = self.form.extra_riffle
            y = apply_stack(x.to(a.dtype), a, d, self.out_channels, extra_riffle=extra)
            return y.to(x.dtype)

    def map_channels(self, x: Tensor) -> Tensor:
        """Applies the stack at every position, with the fused operator where that is worthwhile."""
        a, bias, scale = self.a, self.bias, self.output_scale
        if not self._is_kernels() or not kernel.worthwhile(self.length, x.dtype, a.device):
            return super().map_channels(x)
        wide = wide_dtype(x.dtype)
        return kernel.acdc_stack(
            x,
            _in(wide, a),
            _in(wide, self.d),
            self.out_channels,
            None if bias is None else _in(wide, bias),
            scale=None if scale is None else _in(wide, scale),
        )

    def _is_kernels(self) -> bool:
        return self.form.is_papers and not self.form.extra_riffle

    def fused(self, dtype: torch.dtype) -> bool:
        """Whether the fused kernel can run this stack on inputs of a dtype."""
        return self._is_kernels() and kernel.supports(self.length, dtype, self.a.device)


class AcdcSubstitution(Substitution):
    """Depthwise + stacked ACDC pointwise."""

    name = "acdc"
    title = "SECL"
    summary = "depthwise + a stack of ACDC layers: O(N) parameters, dense or by fast DCT"
    Config = AcdcConfig
    executions = EXECUTIONS

    def _refuse(self, site: Site, config: AcdcConfig) -> str | None:
        conv = site.convolution
        reason = refuse_filters(conv) if config.depthwise == "acdc" else None
        return reason or config.form().refusal(conv)

    def cost(self, site: Site, config: AcdcConfig) -> LayerCost:
        """`k²·c_in + 2NLb` parameters, `2k·c_in + 2NLb` with `depthwise=acdc`.

        `fast` takes the paper's `L(4N + 5N log₂ N)` per position, and `2NL(b − 1)` more with blocks.
        """
        conv, form = site.convolution, config.form()
        length = form.length(conv)
        made = config.depthwise == "acdc"
        return split_cost(
            site,
            form.parameters(length),
            {
                "dense": conv.in_channels * conv.out_channels,
                "fast": form.mult_adds(length),
            },
            filter_parameters=filter_parameters(conv) if made else None,
            note=form.note(conv),
        )

    def _build(self, site: Site, config: AcdcConfig) -> SplitConv:
        conv, form = site.convolution, config.form()
        a, d = initial_factors(conv, form, config.init)
        pointwise = AcdcPointwise(
            conv.in_channels, conv.out_channels, conv.bias, a, d, form, form.length(conv)
        )
        made = config.depthwise == "acdc" and refuse_filters(conv) is None
        return SplitConv(conv, pointwise, DiagonalFilters(conv) if made else None)


def stack_length(conv: Convolution) -> int:
    """N: the larger channel count, rounded up to a length without large prime factors."""
    return Form().length(conv)


def _in(dtype: torch.dtype, value: Tensor) -> Tensor:
    # Even where there is nothing to convert, .to() takes a microsecond, and far more in a cold cache.
    return value if value.dtype == dtype else value.to(dtype)


SUBSTITUTION = AcdcSubstitution()
