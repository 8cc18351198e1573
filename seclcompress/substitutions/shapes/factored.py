"""A tensor that is made from factors, and kept while it is true."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from seclcompress.substitutions.fitting import fit_factors


class Factored(nn.Module, ABC):
    """A module whose weight is made from factors, and kept while nothing changes them.

    The weight is kept only where no gradient has to flow through it, and only while the factors have
    the values that it was made from: they are few, so they are compared at every use. (torch's
    version counters would miss fused optimisers and writes through `.data`.) A copy starts without.
    """

    _kept: tuple[list[Tensor], Tensor] | None = None
    _keeps_product = False
    _product: Tensor | None = None

    @abstractmethod
    def factors(self) -> list[nn.Parameter]:
        """The parameters that the weight is made from."""

    @abstractmethod
    def make_weight(self) -> Tensor:
        """The weight, made from the factors anew, differentiable."""

    def weight(self) -> Tensor:
        """The weight for execution, from memory where that is sound."""
        factors = self.factors()
        tracked = torch.is_grad_enabled() and any(factor.requires_grad for factor in factors)
        if (
            tracked
            or self.training
            or torch.compiler.is_compiling()
            # Under functional_call, vmap and FakeTensorMode the factors are somebody else's tensors.
            or any(type(factor) is not nn.Parameter for factor in factors)
            or any(factor.is_inference() or factor.is_meta for factor in factors)
        ):
            made = self.make_weight()
            if tracked and self._keeps_product:
                self._product = made
            return made
        if self._kept is not None and _equal(self._kept[0], factors):
            return self._kept[1]
        with torch.inference_mode(False), torch.no_grad():
            weight = self.make_weight()
            made_from = [factor.detach().clone() for factor in factors]
        if type(weight) is Tensor:
            self._kept = (made_from, weight)
        return weight

    def product(self) -> Tensor:
        """The weight, differentiable: the last pass's, let go, where that was kept."""
        product, self._product = self._product, None
        return self.make_weight() if product is None else product

    def keep_product(self, keep: bool) -> None:
        """Whether a forward pass in training keeps its weight for `product`."""
        self._keeps_product, self._product = keep, None

    def fit_weight(self, target: Tensor) -> float:
        """Comes as near a tensor as the factors can be brought by gradient descent.

        Args:
            target: Of the weight's shape.

        Returns:
            What is left: ‖weight − target‖ ÷ ‖target‖.
        """
        self.forget_weight()
        return fit_factors(self.factors(), self.make_weight, target)

    def forget_weight(self) -> None:
        """Makes the next call of `weight` start from the factors."""
        self._kept = None

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; training has no use for a kept weight."""
        self.forget_weight()
        super().train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self.forget_weight()
        super()._apply(fn, recurse)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None, "_product": None}


def _equal(kept: list[Tensor], factors: list[nn.Parameter]) -> bool:
    return all(
        old.dtype == new.dtype and old.device == new.device and torch.equal(old, new)
        for old, new in zip(kept, factors, strict=True)
    )
