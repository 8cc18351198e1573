"""A whole convolution that is a chain of thin ones: multiplied out, or one after another."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from seclcompress.cost import (
    EXECUTIONS,
    LayerCost,
    convolution_mult_adds,
    convolution_output_size,
    convolution_parameters,
)
from seclcompress.substitutions.shapes.convolve import convolve, paddings
from seclcompress.substitutions.shapes.full import FullConv, full_cost
from seclcompress.substitutions.shapes.initial import white_factors
from seclcompress.substitutions.shapes.precision import at_least_float32, without_autocast
from seclcompress.substitutions.shapes.quickest import CHAIN, quickest
from seclcompress.substitutions.site import Convolution, Geometry, Site, convolution_of


class TwoWayConv(FullConv):
    """A full convolution that also runs by its factors (`fast`), without making its weight."""

    #: See `quickest`.
    overhead: ClassVar[float] = CHAIN

    @property
    def executions(self) -> tuple[str, ...]:
        """Multiplied out, and by factors."""
        return EXECUTIONS

    def convolve(self, x: Tensor) -> Tensor:
        """Maps (batch, in_channels, *spatial) to (batch, out_channels, *output_size)."""
        if x.numel() == 0 or self.running(lambda: self.quickest_in_training(x)) == "dense":
            return super().convolve(x)
        return self.by_factors(x)

    @abstractmethod
    def by_factors(self, x: Tensor) -> Tensor:
        """Computes what `convolve` does from the factors, with the bias."""

    @abstractmethod
    def mult_adds_of_weight(self) -> int:
        """Mult-Adds of `make_weight`."""

    @abstractmethod
    def mult_adds_by_factors(self, into: Sequence[int], out: Sequence[int]) -> int:
        """Mult-Adds of `by_factors` for one image.

        Args:
            into: The spatial size of the input, one number per dimension.
            out: That of the output.
        """

    def quickest_in_training(self, x: Tensor) -> str:
        """The execution that makes a training step cheaper, in which W is made once for the batch."""
        out = output_size(self, x.shape[2:])
        fast = x.shape[0] * self.mult_adds_by_factors(x.shape[2:], out)
        positions = x.shape[0] * math.prod(out)
        dense = self.mult_adds_of_weight() + positions * convolution_parameters(
            self.in_channels, self.out_channels, self.kernel_size, self.groups, bias=False
        )
        narrower = min(self.in_channels, self.out_channels)
        return quickest(fast, dense, narrower, self.overhead)


def output_size(conv: TwoWayConv, sizes: Sequence[int]) -> list[int]:
    """The spatial size of a convolution's output, by torch's formula.

    Args:
        conv: Its geometry and kernel are read.
        sizes: The spatial size of the input.
    """
    around = [sum(sides) for sides in paddings(conv, conv.kernel_size)]
    return convolution_output_size(sizes, conv.kernel_size, conv.stride, around, conv.dilation)


@dataclass(frozen=True)
class Step:
    """One thin convolution of a chain.

    Attributes:
        in_channels: Its input channels.
        out_channels: Its output channels.
        axes: The dimensions of space in which it has the original's kernel, stride and padding; it is
            1×1 in the others. Every dimension belongs to one step of a chain.
        depthwise: Whether it has one filter for each channel instead of a matrix at every position.
    """

    in_channels: int
    out_channels: int
    axes: tuple[int, ...] = ()
    depthwise: bool = False

    @property
    def groups(self) -> int:
        """As in torch."""
        return self.in_channels if self.depthwise else 1

    def kernel(self, whole: Sequence[int]) -> tuple[int, ...]:
        """Its kernel, from the whole kernel."""
        return tuple(size if axis in self.axes else 1 for axis, size in enumerate(whole))

    def shape(self, whole: Sequence[int]) -> tuple[int, ...]:
        """The shape of its weight, from the whole kernel."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel(whole))


class ChainConv(TwoWayConv):
    """A convolution made from thin ones without anything between them.

    Args:
        conv: The convolution to replace.
        steps: The thin convolutions, in running order.
        weights: Their initial weights.
    """

    def __init__(self, conv: Convolution, steps: Sequence[Step], weights: Sequence[Tensor]) -> None:
        super().__init__(conv)
        self.steps = tuple(steps)
        self.weights = nn.ParameterList(nn.Parameter(weight) for weight in weights)

    def factors(self) -> list[nn.Parameter]:
        """The weights, in running order."""
        return list(self.weights)

    def make_weight(self) -> Tensor:
        """Multiplies the chain out, shape (out_channels, in_channels, *kernel_size)."""
        wide = [at_least_float32(weight) for weight in self.weights]
        return composed(wide, self.steps).to(self.weights[0].dtype)

    def by_factors(self, x: Tensor) -> Tensor:
        """Applies the thin convolutions one after another."""
        last = len(self.steps) - 1
        for place, (step, weight) in enumerate(zip(self.steps, self.weights, strict=True)):
            bias = self.bias if place == last else None
            x = convolve(x, weight.to(x.dtype), bias, _geometry(self, step), step.groups)
        return x

    def to_plain(self) -> nn.Module:
        """Converts to torch's convolutions in a row."""
        last = len(self.steps) - 1
        with without_autocast(self.weights[0]):
            row = [
                convolution_of(
                    weight, self.bias if place == last else None, _geometry(self, step), step.groups
                )
                for place, (step, weight) in enumerate(zip(self.steps, self.weights, strict=True))
            ]
        return nn.Sequential(*row).train(self.training)

    def mult_adds_of_weight(self) -> int:
        """Mult-Adds of `make_weight`: each step is applied to all columns of what stands before it."""
        total, axes = 0, set(self.steps[0].axes)
        for step in self.steps[1:]:
            axes |= set(step.axes)
            columns = self.in_channels * math.prod(self.kernel_size[axis] for axis in axes)
            total += columns * step.out_channels * (step.in_channels // step.groups)
        return total

    def mult_adds_by_factors(self, into: Sequence[int], out: Sequence[int]) -> int:
        """Mult-Adds of the steps for one image."""
        return _mult_adds(self.steps, self.kernel_size, into, out)


def composed(weights: Sequence[Tensor], steps: Sequence[Step]) -> Tensor:
    """Multiplies a chain out to one convolution's weight, shape (out, in, *kernel_size).

    Args:
        weights: The steps' weights, in running order.
        steps: The steps.
    """

    def with_next(first: Tensor, then: tuple[Tensor, Step]) -> Tensor:
        weight, step = then
        # No two steps have the same dimension of space, so one of the two has length 1 there.
        return (
            weight * first if step.depthwise else torch.einsum("om...,mi...->oi...", weight, first)
        )

    return reduce(with_next, zip(weights[1:], steps[1:], strict=True), weights[0])


def initial_chain(conv: Convolution, steps: Sequence[Step]) -> list[Tensor]:
    """Draws the weights of a chain, see `white_factors`."""
    shapes = [step.shape(conv.kernel_size) for step in steps]
    fan_ins = [math.prod(shape[1:]) for shape in shapes]
    return white_factors(conv, shapes, fan_ins, lambda weights: composed(weights, steps))


def chain_parameters(conv: Convolution, steps: Sequence[Step]) -> int:
    """Parameters of a chain, without the bias."""
    return sum(math.prod(step.shape(conv.kernel_size)) for step in steps)


def chain_cost(site: Site, steps: Sequence[Step], *, note: str = "") -> LayerCost:
    """The cost of a chain: dense as the original convolution, or step by step.

    Steps before a dimension's stride run at the input's size in that dimension.

    Args:
        site: The site of the layer to replace.
        steps: The thin convolutions, in running order.
        note: See `LayerCost`.
    """
    conv = site.convolution
    dense = full_cost(site, chain_parameters(conv, steps), note=note)
    fast = sum(
        times * _mult_adds(steps, conv.kernel_size, size.input, size.output)
        for size, times in site.calls.items()
    )
    return LayerCost(dense.parameters, {**dense.mult_adds, "fast": fast}, note)


def _mult_adds(
    steps: Sequence[Step], kernel: Sequence[int], into: Sequence[int], out: Sequence[int]
) -> int:
    total, sizes = 0, list(into)
    for step in steps:
        for axis in step.axes:
            sizes[axis] = out[axis]
        total += convolution_mult_adds(
            step.in_channels, step.out_channels, step.kernel(kernel), step.groups, math.prod(sizes)
        )
    return total


class _Part(NamedTuple):
    """A geometry."""

    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    padding_mode: str


def _geometry(whole: Geometry, step: Step) -> _Part:
    """The geometry of a step: the whole one in its own dimensions, that of a 1×1 kernel in others."""

    def own(values: tuple[int, ...], other: int) -> tuple[int, ...]:
        return tuple(value if axis in step.axes else other for axis, value in enumerate(values))

    padding = whole.padding if isinstance(whole.padding, str) else own(whole.padding, 0)
    mode = whole.padding_mode if step.axes else "zeros"
    return _Part(own(whole.stride, 1), padding, own(whole.dilation, 1), mode)
