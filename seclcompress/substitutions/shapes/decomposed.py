"""Weights made from factors that have a closed form: a decomposition of the original's weight."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.cost import EXECUTIONS
from seclcompress.substitutions.shapes.factored import Factored
from seclcompress.substitutions.shapes.pointwise import FactoredPointwise
from seclcompress.substitutions.shapes.precision import at_least_float32
from seclcompress.substitutions.shapes.quickest import CHAIN, quickest


class Decomposed(Factored):
    """A weight whose factors are found by decomposing a target, without gradient descent.

    It stands before the other base: `class LowRankConv(Decomposed, ChainConv)`.
    """

    @abstractmethod
    def decompose(self, target: Tensor) -> Sequence[Tensor]:
        """Values of `factors`, in their order and shapes, whose product is near a target.

        Args:
            target: A tensor of the weight's shape, in float64, not all zeros.
        """

    def fit_weight(self, target: Tensor) -> float:
        """Sets the factors to a decomposition of a target.

        Args:
            target: A tensor of the weight's shape.

        Returns:
            The relative error, ‖weight − target‖ ÷ ‖target‖ (Frobenius). For a target of zeros nothing
            changes and it is 1: factors of zeros could not be trained.
        """
        wide = target.detach().double()
        norm = float(wide.norm())
        if norm == 0:
            return 1.0
        self.forget_weight()
        with torch.no_grad():
            for factor, value in zip(self.factors(), self.decompose(wide), strict=True):
                factor.copy_(value)
            return float((self.make_weight().double() - wide).norm()) / norm


class ProductPointwise(FactoredPointwise):
    """A map of the channels whose matrix is a product of matrices, `M_n … M_2 M_1`.

    Args:
        bias: The initial bias, or None.
        matrices: The initial matrices in running order, M_1 of shape (…, in_channels) first.
    """

    executions = EXECUTIONS

    def __init__(self, bias: Tensor | None, matrices: Sequence[Tensor]) -> None:
        super().__init__(matrices[0].shape[1], matrices[-1].shape[0], bias)
        self.matrices = nn.ParameterList(nn.Parameter(matrix) for matrix in matrices)

    def factors(self) -> list[nn.Parameter]:
        """The matrices, in running order."""
        return list(self.matrices)

    def make_weight(self) -> Tensor:
        """Multiplies the matrices out, shape (out_channels, in_channels)."""
        wide = [at_least_float32(matrix) for matrix in self.matrices]
        return multiplied(wide).to(self.matrices[0].dtype)

    def plain_matrices(self) -> list[Tensor]:
        """The matrices, each a plain layer."""
        return list(self.matrices)

    def transform(self, x: Tensor) -> Tensor:
        """Applies the matrices one after another to vectors."""
        for matrix in self.matrices:
            x = F.linear(x, matrix.to(x.dtype))
        return x

    def quickest_in_training(self, positions: int) -> str:
        """The execution that makes a training step cheaper; `dense` multiplies the matrices first."""
        vector = sum(matrix.numel() for matrix in self.matrices)
        product = sum(self.in_channels * matrix.numel() for matrix in self.matrices[1:])
        dense = product + positions * self.in_channels * self.out_channels
        narrower = min(self.in_channels, self.out_channels)
        return quickest(positions * vector, dense, narrower, CHAIN)

    def extra_repr(self) -> str:
        """Channels before, between and behind the matrices."""
        widths = [self.in_channels, *(matrix.shape[0] for matrix in self.matrices)]
        return " → ".join(map(str, widths))


def multiplied(matrices: Sequence[Tensor]) -> Tensor:
    """The product of matrices in running order: the last one stands on the left."""
    return reduce(lambda first, then: then @ first, matrices)
