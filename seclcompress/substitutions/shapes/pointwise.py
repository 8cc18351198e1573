"""The part of a split convolution for channels: a linear map of the channels at every position."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seclcompress.substitutions.shapes.factored import Factored


class Pointwise(nn.Module, ABC):
    """A linear map of the channels at every position, with a bias or without.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        bias: The bias to start from, shape (out_channels,); copied.
    """

    #: The ways it can run. One that is `fast` has a transform that is not its matrix.
    executions: tuple[str, ...] = ("dense",)
    bias: nn.Parameter | None
    #: Shape (out_channels,), see `scale_outputs`.
    output_scale: Tensor | None

    def __init__(self, in_channels: int, out_channels: int, bias: Tensor | None) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.register_buffer("output_scale", None)

    @abstractmethod
    def make_weight(self) -> Tensor:
        """The map as a matrix, shape (out_channels, in_channels), made anew, differentiable.

        Without what `scale_outputs` has folded into the map.
        """

    def plain_matrices(self) -> list[Tensor]:
        """The matrices of plain layers that compute the map, the first to run first.

        More than one where the structure is a product of matrices that torch can run as they are.
        Without what `scale_outputs` has folded into the map.
        """
        return [self.make_weight()]

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
        return self.make_weight()

    def transform(self, x: Tensor) -> Tensor:
        """The map on vectors without its matrix, the bias left out; a family that is `fast` has one.

        Args:
            x: Shape (..., in_channels).

        Returns:
            Shape (..., out_channels).
        """
        return F.linear(x, self.make_weight())

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
    def fit_weight(self, target: Tensor) -> float:
        """Comes as near a matrix as it can.

        Args:
            target: Shape (out_channels, in_channels).

        Returns:
            What is left: ‖W − target‖ ÷ ‖target‖.
        """

    def product(self) -> Tensor:
        """The map as a matrix, differentiable: the last pass's, where that was kept."""
        return self.make_weight()

    def keep_product(self, keep: bool) -> None:
        """Whether a forward pass in training keeps its matrix for `product`."""


class FactoredPointwise(Factored, Pointwise):
    """A map whose matrix is made from factors, and kept while nothing changes them."""
