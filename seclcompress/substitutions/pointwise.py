"""A linear map of the channels at every position, held as structured factors or as a matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from seclcompress.substitutions.fitting import fit_factors


class Pointwise(nn.Module, ABC):
    """A linear map of the channels at every position, with a bias or without.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        bias: The bias to start from, shape (out_channels,); copied.
    """

    bias: nn.Parameter | None
    #: Shape (out_channels,), see `scale_outputs`.
    output_scale: Tensor | None

    def __init__(self, in_channels: int, out_channels: int, bias: Tensor | None) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.register_buffer("output_scale", None)

    @abstractmethod
    def dense_weight(self) -> Tensor:
        """The map as a matrix, shape (out_channels, in_channels), made anew, differentiable.

        Without what `scale_outputs` has folded into the map.
        """

    def scale_outputs(self, scale: Tensor, shift: Tensor) -> None:
        """Folds `y -> scale * y + shift` into the map, as a batch norm behind it does in eval mode.

        For networks that are run and neither trained nor fitted: the bias gets no gradient any more,
        and the scale is a buffer, which only a network that was folded as well can load.

        Args:
            scale: Shape (out_channels,).
            shift: Shape (out_channels,).

        Raises:
            ValueError: If a shape is another.
        """
        expected = (self.out_channels,)
        if scale.shape != expected or shift.shape != expected:
            raise ValueError(
                f"scale_outputs takes one number for each of {self.out_channels} output channels; "
                f"got shapes {tuple(scale.shape)} and {tuple(shift.shape)}."
            )
        with torch.no_grad():
            example = next(self.parameters()) if self.bias is None else self.bias
            bias = shift if self.bias is None else scale * self.bias + shift
            before = 1 if self.output_scale is None else self.output_scale
            self.bias = nn.Parameter(bias.to(example.dtype, copy=True), requires_grad=False)
            self.output_scale = scale * before

    def scaled(self, matrix: Tensor) -> Tensor:
        """A matrix of the map with what `scale_outputs` has folded into it."""
        scale = self.output_scale
        return matrix if scale is None else matrix * scale.to(matrix.dtype)[:, None]

    def weight(self) -> Tensor:
        """The map as a matrix, for execution. Shape (out_channels, in_channels)."""
        return self.dense_weight()

    @abstractmethod
    def transform(self, x: Tensor) -> Tensor:
        """The map on vectors, the bias left out. Shape (..., in_channels) to (..., out_channels)."""

    def map_channels(self, x: Tensor) -> Tensor:
        """The map at every position, with the bias, without multiplying it out.

        Args:
            x: Shape (batch, in_channels, *spatial).

        Returns:
            Shape (batch, out_channels, *spatial).
        """
        y = self.transform(x.movedim(1, -1))
        y = y if self.output_scale is None else y * self.output_scale.to(y.dtype)
        y = (y if self.bias is None else y + self.bias.to(y.dtype)).movedim(-1, 1)
        # As a convolution's, the output has the input's layout.
        channels_last = x.dim() == 4 and not x.is_contiguous() and x.stride(1) == 1
        return y.contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )

    def quickest_in_training(self, positions: int) -> str:  # noqa: ARG002
        """`dense` or `fast`: what a training step over so many vectors should run."""
        return "dense"

    def factors(self) -> list[nn.Parameter]:
        """The structured factors among the parameters."""
        return []

    @abstractmethod
    def fit(self, matrix: Tensor) -> float:
        """Comes as near a matrix as it can.

        Args:
            matrix: Shape (out_channels, in_channels).

        Returns:
            What is left: ‖W − matrix‖ ÷ ‖matrix‖.
        """

    def product(self) -> Tensor:
        """The map as a matrix, differentiable: the last pass's, where that was kept."""
        return self.dense_weight()

    def keep_product(self, keep: bool) -> None:
        """Whether a forward pass in training keeps its matrix for `product`."""


class FactoredPointwise(Pointwise):
    """A map whose matrix is made from factors, and kept while nothing changes them.

    The matrix is kept only where no gradient has to flow through it, and only while the factors have
    the values that it was made from: they are few, so they are compared at every use. (torch's
    version counters would miss fused optimisers and writes through `.data`.) A copy starts without.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: Tensor | None) -> None:
        super().__init__(in_channels, out_channels, bias)
        self._kept: tuple[list[Tensor], Tensor] | None = None
        self._keeps_product = False
        self._product: Tensor | None = None

    def product(self) -> Tensor:
        """The map as a matrix, differentiable: the last pass's, let go, where that was kept."""
        product, self._product = self._product, None
        return self.dense_weight() if product is None else product

    def keep_product(self, keep: bool) -> None:
        """Whether a forward pass in training keeps its matrix for `product`."""
        self._keeps_product, self._product = keep, None

    def weight(self) -> Tensor:
        """The map as a matrix, from memory where that is sound."""
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
            made = self.dense_weight()
            if tracked and self._keeps_product:
                self._product = made
            return made
        if self._kept is not None and _equal(self._kept[0], factors):
            return self._kept[1]
        with torch.inference_mode(False), torch.no_grad():
            weight = self.dense_weight()
            made_from = [factor.detach().clone() for factor in factors]
        if type(weight) is Tensor:
            self._kept = (made_from, weight)
        return weight

    def fit(self, matrix: Tensor) -> float:
        """Comes as near a matrix as the factors can be brought by gradient descent."""
        self.forget_weight()
        return fit_factors(self.factors(), self.dense_weight, matrix)

    def forget_weight(self) -> None:
        """Makes the next call of `weight` start from the factors."""
        self._kept = None

    def train(self, mode: bool = True) -> FactoredPointwise:
        """Sets the mode; training has no use for a kept matrix."""
        self.forget_weight()
        super().train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> FactoredPointwise:
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
