"""The channel part of a split convolution: a linear map of the channels at every position."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from seclcompress.substitutions.shapes.convolve import in_layout_of
from seclcompress.substitutions.shapes.factored import Factored


class Pointwise(nn.Module, ABC):
    """A linear map of the channels at every position, with or without a bias.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        bias: The initial bias, shape (out_channels,), which is copied; or None.
    """

    #: The ways it can run. A map with `fast` overrides `transform`.
    executions: tuple[str, ...] = ("dense",)
    bias: nn.Parameter | None
    #: The scale that `scale_outputs` has folded in, shape (out_channels,); None before that.
    output_scale: Tensor | None

    def __init__(self, in_channels: int, out_channels: int, bias: Tensor | None) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.register_buffer("output_scale", None)

    @abstractmethod
    def make_weight(self) -> Tensor:
        """Makes the map's matrix, shape (out_channels, in_channels), differentiable.

        It does not contain the scale that `scale_outputs` has folded in.
        """

    def plain_matrices(self) -> list[Tensor]:
        """The matrices of the plain layers that compute the map, in running order.

        There are several where the structure is a product of matrices. They do not contain the scale
        that `scale_outputs` has folded in.
        """
        return [self.make_weight()]

    def scale_outputs(self, scale: Tensor, shift: Tensor) -> None:
        """Folds `y -> scale * y + shift`, such as a batch norm's map in eval mode, into this map.

        For networks that are run, and neither trained nor fitted: afterwards the bias has no gradient,
        and the scale is a buffer, so that the state fits only networks folded in the same way.

        Args:
            scale: Shape (out_channels,).
            shift: Shape (out_channels,).

        Raises:
            ValueError: If a shape differs from these.
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

    def fused(self, dtype: torch.dtype) -> bool:  # noqa: ARG002
        """Whether the fused kernel runs `map_channels` on inputs of a dtype."""
        return False

    def scaled(self, matrix: Tensor) -> Tensor:
        """Scales the rows of a matrix, shape (out_channels, …), by what `scale_outputs` folded in."""
        scale = self.output_scale
        return matrix if scale is None else matrix * scale.to(matrix.dtype)[:, None]

    def weight(self) -> Tensor:
        """The map's matrix for execution, shape (out_channels, in_channels)."""
        return self.make_weight()

    def transform(self, x: Tensor) -> Tensor:
        """Applies the map to vectors, without the bias and the folded scale.

        Only a map with the execution `fast` has it, and only there it is called.

        Args:
            x: Shape (..., in_channels).

        Returns:
            Shape (..., out_channels).
        """
        raise NotImplementedError(f"{type(self).__name__} has no transform of {tuple(x.shape)}")

    def map_channels(self, x: Tensor) -> Tensor:
        """Applies the map at every position by `transform`, with the bias and the folded scale.

        Args:
            x: Shape (batch, in_channels, *spatial).

        Returns:
            Shape (batch, out_channels, *spatial).
        """
        y = self.transform(x.movedim(1, -1))
        y = y if self.output_scale is None else y * self.output_scale.to(y.dtype)
        y = (y if self.bias is None else y + self.bias.to(y.dtype)).movedim(-1, 1)
        return in_layout_of(x, y)

    def quickest_in_training(self, positions: int) -> str:  # noqa: ARG002
        """The faster execution, `dense` or `fast`, for a training step on this many positions."""
        return "dense"

    def factors(self) -> list[nn.Parameter]:
        """The parameters that the matrix is made from; none if it is a parameter itself."""
        return []

    @abstractmethod
    def fit_weight(self, target: Tensor) -> float:
        """Brings the map's matrix W as near a target as it can.

        Args:
            target: Shape (out_channels, in_channels).

        Returns:
            The relative error, ‖W − target‖ ÷ ‖target‖ (Frobenius).
        """

    def product(self) -> Tensor:
        """The map's matrix, differentiable: that of the last pass if it was kept, or a new one."""
        return self.make_weight()

    def keep_product(self, keep: bool) -> None:
        """Sets whether a forward pass in training keeps its matrix for `product`."""


class FactoredPointwise(Factored, Pointwise):
    """A map whose matrix is made from factors and cached, see `Factored`."""
