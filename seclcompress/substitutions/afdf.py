"""AFDF: a depthwise convolution followed by a stack of complex diagonals and Fourier transforms.

Moczulski et al., "ACDC: A Structured Efficient Linear Layer", ICLR 2016, section 3: the complex layers
with which the theory of ACDC is proved. Inputs and outputs are real here: the numbers between the
layers are complex, and the real part is taken once, at the end of the stack:

    y = fold( Re( expand(x) · Π_l A_l F D_l F⁻¹ P ) )
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator
from typing_extensions import Self

from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.substitutions.contract import Substitution, SubstitutionConfig
from seclcompress.substitutions.shapes import SplitConv, split_cost
from seclcompress.substitutions.shapes.permutation import PermutationKind, check_seed
from seclcompress.substitutions.shapes.spectral import Form, SpectralPointwise
from seclcompress.substitutions.shapes.spectral_start import initial_factors
from seclcompress.substitutions.site import Site


class AfdfConfig(SubstitutionConfig):
    """Options of the AFDF stack.

    Attributes:
        depth: Number L of AFDF layers in the stack. Six have as many numbers as twelve ACDC layers.
        permutation: As in acdc.
        permutation_seed: The seed of `permutation=random`.
        block: The size b of the blocks of A and D, which are diagonals for b = 1. 4NLb parameters.
    """

    depth: int = Field(default=6, ge=1, le=1024)
    permutation: PermutationKind = "riffle"
    permutation_seed: int = Field(default=0, ge=0, lt=2**32)
    block: int = Field(default=1, ge=1, le=1024)

    @model_validator(mode="after")
    def _seed_of_something(self) -> Self:
        check_seed(self.permutation, self.permutation_seed)
        return self

    @classmethod
    def ladder(cls) -> tuple[dict[str, Any], ...]:
        """Stacks of 1 to 8 layers."""
        return tuple({"depth": depth} for depth in (1, 2, 3, 4, 6, 8))

    def form(self) -> Form:
        """What the layers of the stack look like."""
        return Form(
            fourier=True,
            depth=self.depth,
            block=self.block,
            permutation=self.permutation,
            permutation_seed=self.permutation_seed,
        )


class AfdfSubstitution(Substitution):
    """Depthwise + stacked AFDF pointwise."""

    name = "afdf"
    title = "AFDF"
    summary = "depthwise + a stack of AFDF layers: complex diagonals, dense or by FFT"
    Config = AfdfConfig
    executions = EXECUTIONS

    def _refuse(self, site: Site, config: AfdfConfig) -> str | None:
        return config.form().refusal(site.convolution)

    def cost(self, site: Site, config: AfdfConfig) -> LayerCost:
        """`k²·c_in + 4NLb` parameters; `fast` takes `L(8Nb + 10N log₂ N)` per position."""
        conv, form = site.convolution, config.form()
        length = form.length(conv)
        return split_cost(
            site,
            form.parameters(length),
            {"dense": conv.in_channels * conv.out_channels, "fast": form.mult_adds(length)},
            note=form.note(conv),
        )

    def _build(self, site: Site, config: AfdfConfig) -> SplitConv:
        conv, form = site.convolution, config.form()
        a, d = initial_factors(conv, form)
        pointwise = SpectralPointwise(
            conv.in_channels, conv.out_channels, conv.bias, a, d, form, form.length(conv)
        )
        return SplitConv(conv, pointwise)


SUBSTITUTION = AfdfSubstitution()
