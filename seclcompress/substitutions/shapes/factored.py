"""A tensor that is made from factors, and cached while the factors stay the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from seclcompress.substitutions.fitting import fit_factors
from seclcompress.substitutions.graph import GraphWriter
from seclcompress.substitutions.shapes.precision import without_autocast


class Factored(nn.Module, ABC):
    """A module whose weight is made from factors, and cached while the factors stay the same.

    The cache serves only where no gradient has to flow through the weight, and only while the factors
    have the values that the weight was made from. These are few numbers, so every use compares them.
    (torch's version counters would miss fused optimisers and writes through `.data`.) A copy of the
    module starts with an empty cache.
    """

    _kept: tuple[list[Tensor], Tensor] | None = None
    _keeps_product = False
    _product: Tensor | None = None

    @abstractmethod
    def factors(self) -> list[nn.Parameter]:
        """The parameters that the weight is made from: all that `make_weight` reads.

        A cached weight is used as long as these are unchanged, so a tensor that is left out here makes
        it stale.
        """

    @abstractmethod
    def make_weight(self) -> Tensor:
        """Makes the weight from the factors, differentiable, without the cache."""

    def make_weight_in_graph(self) -> Tensor:
        """Makes the weight, as `make_weight`, by operations that exported graphs can have.

        A family whose `make_weight` runs transforms or its own operators overrides this. Tables are
        computed here as well, because a table in a file would be larger than the weight.
        """
        return self.make_weight()

    def write_weight(self, graph: GraphWriter) -> Any:  # noqa: ARG002
        """Writes how the weight is made into a graph, of the shape of `make_weight`'s result.

        It is for families whose `make_weight_in_graph` gives a larger or slower graph when it is traced.

        Args:
            graph: What nodes are added to.

        Returns:
            The weight's value in the graph; None, before anything is added, to leave it to tracing.
        """
        return None

    def weight(self) -> Tensor:
        """The weight for execution, from the cache where that is safe."""
        factors = self.factors()
        tracked = torch.is_grad_enabled() and any(factor.requires_grad for factor in factors)
        if (
            tracked
            or self.training
            or torch.compiler.is_compiling()
            # functional_call, vmap and FakeTensorMode put other tensors in the place of the factors.
            or any(type(factor) is not nn.Parameter for factor in factors)
            or any(factor.is_inference() or factor.is_meta for factor in factors)
        ):
            made = self._made()
            if tracked and self._keeps_product:
                self._product = made
            return made
        if self._kept is not None and _equal(self._kept[0], factors):
            return self._kept[1]
        with torch.inference_mode(False), torch.no_grad():
            weight = self._made()
            made_from = [factor.detach().clone() for factor in factors]
        if type(weight) is Tensor:
            self._kept = (made_from, weight)
        return weight

    def product(self) -> Tensor:
        """The weight, differentiable: the one that the last pass kept, or a new one.

        A kept weight is released, so it is returned only once.
        """
        product, self._product = self._product, None
        return self._made() if product is None else product

    def _made(self) -> Tensor:
        with without_autocast(self.factors()[0]):
            return self.make_weight()

    def keep_product(self, keep: bool) -> None:
        """Sets whether a forward pass in training keeps its weight for `product`."""
        self._keeps_product, self._product = keep, None

    def fit_weight(self, target: Tensor) -> float:
        """Brings the weight near a target by gradient descent on the factors.

        Args:
            target: A tensor of the weight's shape.

        Returns:
            The relative error, ‖weight − target‖ ÷ ‖target‖ (Frobenius).
        """
        self.forget_weight()
        return fit_factors(self.factors(), self.make_weight, target)

    def forget_weight(self) -> None:
        """Empties the cache, so that the next call of `weight` makes the weight anew."""
        self._kept = None

    def train(self, mode: bool = True) -> Self:
        """Sets the mode and empties the cache, which training does not use."""
        self.forget_weight()
        super().train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self.forget_weight()
        super()._apply(fn, recurse)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None, "_product": None}


class Making(nn.Module):
    """A module without inputs that makes a weight from factors, for exported graphs.

    Args:
        factored: The module that holds the factors; it is shared, not copied.
        shape: The weight's shape.
        scale: Multiplies the weight's first dimension, shape (shape[0],); None for no scale.
    """

    scale: Tensor | None

    def __init__(self, factored: Factored, shape: tuple[int, ...], scale: Tensor | None) -> None:
        super().__init__()
        self.factored, self.shape = factored, shape
        factored.forget_weight()
        self.register_buffer("scale", scale)

    def write(self, graph: GraphWriter) -> Any:
        """Writes the weight into a graph by the family's `write_weight`; None where it has none."""
        weight = self.factored.write_weight(graph)
        if weight is None:
            return None
        weight = graph.op("Reshape", weight, list(self.shape))
        if self.scale is None:
            return weight
        ones = [-1, *[1] * (len(self.shape) - 1)]
        return graph.op("Mul", weight, graph.op("Reshape", graph.given(self.scale), ones))

    def forward(self) -> Tensor:
        """Makes the weight."""
        weight = self.factored.make_weight_in_graph().reshape(self.shape)
        if self.scale is None:
            return weight
        return weight * self.scale.to(weight.dtype).reshape(-1, *[1] * (len(self.shape) - 1))


def _equal(kept: list[Tensor], factors: list[nn.Parameter]) -> bool:
    return all(
        old.dtype == new.dtype and old.device == new.device and torch.equal(old, new)
        for old, new in zip(kept, factors, strict=True)
    )
