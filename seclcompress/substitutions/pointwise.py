"""A linear map of the channels at every position, held as structured factors or as a matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

#: What a cached matrix was made from: each factor with its storage and its version counter.
_Origin = list[tuple[nn.Parameter, int, int]]


class Pointwise(nn.Module, ABC):
    """A linear map of the channels at every position, with a bias or without.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        bias: The bias to start from, shape (out_channels,); copied.
    """

    bias: nn.Parameter | None

    def __init__(self, in_channels: int, out_channels: int, bias: Tensor | None) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    @abstractmethod
    def dense_weight(self) -> Tensor:
        """The map as a matrix, shape (out_channels, in_channels), made anew, differentiable."""

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
        return (y if self.bias is None else y + self.bias).movedim(-1, 1)

    def quickest_in_training(self, positions: int) -> str:  # noqa: ARG002
        """`dense` or `fast`: what a training step over so many vectors should run."""
        return "dense"

    def factors(self) -> list[nn.Parameter]:
        """The structured factors among the parameters."""
        return []


class FactoredPointwise(Pointwise):
    """A map whose matrix is made from factors, and kept while nothing changes them.

    The matrix is kept only where no gradient has to flow through it. It is made anew after every
    write to a factor that torch's version counters see (an optimiser's step, `load_state_dict`,
    `copy_`), after `.to()` and its kin, and in every copy. A write through `.data` goes past those
    counters, here as everywhere in autograd; call `forget_weight()` after one.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: Tensor | None) -> None:
        super().__init__(in_channels, out_channels, bias)
        self._kept: tuple[_Origin, Tensor] | None = None

    def weight(self) -> Tensor:
        """The map as a matrix, from memory where that is sound."""
        factors = self.factors()
        tracked = torch.is_grad_enabled() and any(factor.requires_grad for factor in factors)
        if (
            tracked
            or self.training
            or torch.compiler.is_compiling()
            or any(factor.is_inference() for factor in factors)
        ):
            return self.dense_weight()
        origin = [(factor, factor.data_ptr(), factor._version) for factor in factors]
        if self._kept is not None and _same_origin(self._kept[0], origin):
            return self._kept[1]
        with torch.inference_mode(False), torch.no_grad():
            weight = self.dense_weight()
        if type(weight) is Tensor and not weight.is_meta:  # nothing that belongs to a trace
            self._kept = (origin, weight)
        return weight

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
        return {**self.__dict__, "_kept": None}


def _same_origin(kept: _Origin, now: _Origin) -> bool:
    return all(
        old is new and (old_pointer, old_version) == (pointer, version)
        for (old, old_pointer, old_version), (new, pointer, version) in zip(kept, now, strict=True)
    )
