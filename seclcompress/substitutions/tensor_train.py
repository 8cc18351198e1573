"""Tensor train: the matrix of the channels as a chain of small cores.

Both channel numbers are cut into factors, c_in = n_1 n_2 … n_d and c_out = m_1 m_2 … m_d, and

    W[(i_1 … i_d), (j_1 … j_d)] = G_1[i_1, j_1] G_2[i_2, j_2] … G_d[i_d, j_d]

with a matrix of TT-ranks for every entry of a core (Novikov et al., "Tensorizing Neural Networks",
2015). With `on=kernel` a core of the kernel's positions stands before these (Garipov et al., "Ultimate
Tensorization: Compressing Convolutional and FC Layers Alike", 2016): r filters, the same for every input
channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from seclcompress.cost import EXECUTIONS, LayerCost, convolution_mult_adds
from seclcompress.substitutions.contract import Substitution
from seclcompress.substitutions.shapes import (
    Decomposed,
    FactoredPointwise,
    SplitConv,
    full_cost,
    split_cost,
)
from seclcompress.substitutions.shapes.chain import TwoWayConv
from seclcompress.substitutions.shapes.convolve import convolve, in_layout_of
from seclcompress.substitutions.shapes.initial import white_factors
from seclcompress.substitutions.shapes.precision import at_least_float32
from seclcompress.substitutions.shapes.quickest import BLOCKS, quickest
from seclcompress.substitutions.shapes.train import (
    Train,
    channel_sides,
    decomposed,
    full_ranks,
    multiplied_out,
    through,
)
from seclcompress.substitutions.site import Convolution, Site
from seclcompress.substitutions.sized import PlacedConfig, chosen_rank, on_kernel, refuse_groups
from seclcompress.substitutions.structured import StructuredConv


class TensorTrainConfig(PlacedConfig):
    """Options of the train.

    Attributes:
        on: `pointwise`: the matrix of the channels behind a depthwise convolution. `kernel`: the weight
            of the convolution, with one core more.
        rank: The TT-rank between all cores, each cut to the full one there; 0 takes the largest that
            `ratio` allows.
        cores: Number d of cores of the channels.
    """

    cores: int = Field(default=3, ge=2, le=16, description="cores of the channels")


class TrainPointwise(Decomposed, FactoredPointwise):
    """A map of the channels by a train of cores.

    Args:
        bias: The initial bias, or None.
        train: The shape of the train.
        cores: The initial cores, see `Train.cores`.
    """

    executions = EXECUTIONS

    def __init__(self, bias: Tensor | None, train: Train, cores: Sequence[Tensor]) -> None:
        into = math.prod(n for _, n in train.sides)
        super().__init__(into, math.prod(m for m, _ in train.sides), bias)
        self.shape = train
        self.cores = nn.ParameterList(nn.Parameter(core) for core in cores)

    def factors(self) -> list[nn.Parameter]:
        """The cores, in their order."""
        return list(self.cores)

    def make_weight(self) -> Tensor:
        """Multiplies the cores out, shape (out_channels, in_channels)."""
        wide = [at_least_float32(core) for core in self.cores]
        return multiplied_out(wide)[0].to(self.cores[0].dtype)

    def transform(self, x: Tensor) -> Tensor:
        """Applies the cores one after another to vectors."""
        return through(x[..., None, :], list(self.cores))

    def quickest_in_training(self, positions: int) -> str:
        """The execution that makes a training step cheaper; `dense` multiplies the cores out first."""
        dense = self.shape.matrix + positions * self.in_channels * self.out_channels
        narrower = min(self.in_channels, self.out_channels)
        return quickest(positions * self.shape.vector, dense, narrower, BLOCKS)

    def decompose(self, target: Tensor) -> list[Tensor]:
        """By truncated SVDs."""
        return decomposed(target[..., None], self.shape)

    def extra_repr(self) -> str:
        """The channels as products, and the ranks."""
        return self.shape.words


class TrainConv(Decomposed, TwoWayConv):
    """A convolution whose weight is a train of cores, the first one for the kernel's positions.

    Args:
        conv: The convolution to replace.
        train: The shape of the train.
        cores: The initial cores: one of shape (rank, *kernel_size), and those of `Train.cores`.
    """

    overhead = BLOCKS

    def __init__(self, conv: Convolution, train: Train, cores: Sequence[Tensor]) -> None:
        super().__init__(conv)
        self.shape = train
        self.cores = nn.ParameterList(nn.Parameter(core) for core in cores)

    def factors(self) -> list[nn.Parameter]:
        """The cores, in their order."""
        return list(self.cores)

    def make_weight(self) -> Tensor:
        """Multiplies the cores out, shape (out_channels, in_channels, *kernel_size)."""
        filters, *cores = [at_least_float32(core) for core in self.cores]
        return _weight(filters, cores).to(self.cores[0].dtype)

    def by_factors(self, x: Tensor) -> Tensor:
        """Applies all filters to every channel, and the cores at every position."""
        filters, *cores = self.cores
        batch, channels = x.shape[:2]
        # One image with one channel for each channel.
        alone = x.flatten(0, 1).unsqueeze(1)
        y = convolve(alone, filters.unsqueeze(1).to(x.dtype), None, self)
        y = y.unflatten(0, (batch, channels)).movedim((1, 2), (-1, -2))
        y = through(y, cores)
        y = (y if self.bias is None else y + self.bias.to(y.dtype)).movedim(-1, 1)
        return in_layout_of(x, y)

    def mult_adds_of_weight(self) -> int:
        """Mult-Adds of `make_weight`."""
        return self.shape.matrix

    def mult_adds_by_factors(self, into: Sequence[int], out: Sequence[int]) -> int:  # noqa: ARG002
        """Mult-Adds of the filters and the cores for one image."""
        return _mult_adds(self.shape, self.in_channels, self.kernel_size, math.prod(out))

    def decompose(self, target: Tensor) -> list[Tensor]:
        """By truncated SVDs."""
        filters, *cores = decomposed(target.flatten(2), self.shape)
        return [filters.reshape(self.cores[0].shape), *cores]


def _weight(filters: Tensor, cores: Sequence[Tensor]) -> Tensor:
    matrices = multiplied_out(cores)
    return torch.einsum("aoi,a...->oi...", matrices, filters)


class TensorTrainSubstitution(Substitution):
    """A train of small cores, for the channels or for the whole kernel."""

    name = "tensor_train"
    title = "Tensor train"
    summary = (
        "a chain of small cores over factors of the channels, behind a depthwise part or whole"
    )
    Config = TensorTrainConfig
    executions = EXECUTIONS

    def _refuse(self, site: Site, config: TensorTrainConfig) -> str | None:
        conv = site.convolution
        reason = refuse_groups(conv, config.on)
        if reason is not None or _sides(conv, config.cores) is not None:
            return reason
        words = (
            f"its {conv.in_channels:,} × {conv.out_channels:,} channels have too few factors for "
            f"{config.cores} cores"
        )
        fewer = [cores for cores in range(2, config.cores) if _sides(conv, cores) is not None]
        return f"{words}; cores={fewer[-1]} would do" if fewer else words

    def cost(self, site: Site, config: TensorTrainConfig) -> LayerCost:
        """`Σ r_{n−1} m_n n_n r_n` parameters, and `k·r_0` more with `on=kernel`, `k·c_in` without."""
        conv, train = site.convolution, _train(site.convolution, config)
        note = train.words
        if not on_kernel(conv, config.on):
            dense = conv.in_channels * conv.out_channels
            ways = {"dense": dense, "fast": train.vector}
            return split_cost(site, train.parameters, ways, note=note)
        whole = full_cost(site, train.parameters, note=note)
        fast = _mult_adds(train, conv.in_channels, conv.kernel_size, site.output_positions)
        return LayerCost(whole.parameters, {**whole.mult_adds, "fast": fast}, note)

    def _build(self, site: Site, config: TensorTrainConfig) -> StructuredConv:
        conv, train = site.convolution, _train(site.convolution, config)
        shapes: list[tuple[int, ...]] = list(train.cores)
        fan_ins = [r * n for r, _, n, _ in train.cores]
        if not on_kernel(conv, config.on):
            cores = white_factors(conv, shapes, fan_ins, lambda made: multiplied_out(made)[0])
            return SplitConv(conv, TrainPointwise(conv.bias, train, cores))
        cores = white_factors(
            conv,
            [(train.ranks[0], *conv.kernel_size), *shapes],
            [train.places, *fan_ins],
            lambda made: _weight(made[0], made[1:]),
        )
        return TrainConv(conv, train, cores)


def _mult_adds(train: Train, channels: int, kernel: Sequence[int], positions: int) -> int:
    """Mult-Adds of the filters, each on every channel, and of the cores."""
    filters = convolution_mult_adds(1, train.ranks[0], kernel, 1, positions)
    return channels * filters + positions * train.vector


def _sides(conv: Convolution, cores: int) -> tuple[tuple[int, int], ...] | None:
    return channel_sides(conv.in_channels, conv.out_channels, cores)


def _train(conv: Convolution, config: TensorTrainConfig) -> Train:
    """The shape of a layer's train."""
    sides = _sides(conv, config.cores)
    assert sides is not None  # it was not refused
    places = math.prod(conv.kernel_size) if on_kernel(conv, config.on) else 1
    full = full_ranks(places, sides)

    def cut(rank: int) -> Train:
        return Train(places, sides, tuple(min(rank, most) for most in full))

    dense = places * conv.in_channels * conv.out_channels
    return cut(chosen_rank(config, lambda rank: cut(rank).parameters, dense, max(full)))


SUBSTITUTION = TensorTrainSubstitution()
