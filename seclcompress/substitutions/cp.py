"""CP: a sum of r products of one vector of inputs, one filter, and one vector of outputs.

1×1 c_in → r, a depthwise k×k convolution of r channels, 1×1 r → c_out: the canonical polyadic form of
the tensor (c_out, c_in, positions). With `space=separate` the tensor has a side for each dimension of
space, and the depthwise part is a k×1 and a 1×k convolution (Lebedev et al., "Speeding-up Convolutional
Neural Networks Using Fine-tuned CP-Decomposition", ICLR 2015). `joined` is the default: the filters are
few numbers beside the channels (9 instead of 6 for each component of a 3×3), a component holds more, and
one layer runs instead of two.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from torch import Tensor

from seclcompress.cost import EXECUTIONS, LayerCost
from seclcompress.substitutions.contract import Substitution
from seclcompress.substitutions.shapes import ChainConv, Decomposed, Step, chain_cost
from seclcompress.substitutions.shapes.chain import chain_parameters, initial_chain
from seclcompress.substitutions.shapes.split import is_pointwise
from seclcompress.substitutions.site import Convolution, Site
from seclcompress.substitutions.sized import RankedConfig, chosen_rank
from seclcompress.substitutions.tensors import canonical


class CpConfig(RankedConfig):
    """Options of the sum.

    Attributes:
        space: `joined`: one k×k filter for each component. `separate`: one filter for each component
            and dimension of space.
    """

    space: Literal["joined", "separate"] = Field(
        default="joined", description="the filter of a component: k×k, or k×1 and 1×k"
    )


class CpConv(Decomposed, ChainConv):
    """A depthwise convolution of r channels, in one step or several, between two 1×1 convolutions."""

    def decompose(self, target: Tensor) -> list[Tensor]:
        """By alternating least squares; exactly with as many components as that needs."""
        spaces = [step.axes for step in self.steps[1:-1]]
        sides = [math.prod(target.shape[2 + axis] for axis in axes) for axes in spaces]
        rank = self.steps[0].out_channels
        # Dimensions of space of length 1 share a side with another one, whose order they do not change.
        out, into, *filters = canonical(target.reshape(*target.shape[:2], *sides), rank)
        values = [into.mT, *(filter_.mT for filter_ in filters), out]
        return [
            value.reshape(weight.shape) for value, weight in zip(values, self.weights, strict=True)
        ]


class CpSubstitution(Substitution):
    """A sum of products of vectors, for convolutions with a kernel above 1×1."""

    name = "cp"
    title = "CP"
    summary = "1×1, depthwise k×k, 1×1 with r channels between: a sum of r products of vectors"
    Config = CpConfig
    executions = EXECUTIONS

    def _refuse(self, site: Site, config: CpConfig) -> str | None:  # noqa: ARG002
        conv = site.convolution
        if is_pointwise(conv):
            return "without a kernel above 1×1 it is two thin matrices, which low_rank makes"
        if conv.groups > 1:
            return f"its {conv.groups} groups have no weights between them"
        return None

    def cost(self, site: Site, config: CpConfig) -> LayerCost:
        """`r(c_in + k + c_out)` parameters, k the sum of the kernel's sides with `space=separate`."""
        conv = site.convolution
        rank, full = _rank(conv, config), _full_rank(conv, config)
        return chain_cost(site, _steps(conv, rank, config), note=f"rank {rank:,} of {full:,}")

    def _build(self, site: Site, config: CpConfig) -> CpConv:
        conv = site.convolution
        steps = _steps(conv, _rank(conv, config), config)
        return CpConv(conv, steps, initial_chain(conv, steps))


def _spaces(conv: Convolution, config: CpConfig) -> list[tuple[int, ...]]:
    """The dimensions of space of each depthwise step."""
    if config.space == "joined":
        return [tuple(range(len(conv.kernel_size)))]
    long = [axis for axis, size in enumerate(conv.kernel_size) if size > 1]
    short = [axis for axis, size in enumerate(conv.kernel_size) if size == 1]
    # A dimension of length 1 may have a stride or padding, but needs no step of its own.
    return [tuple(sorted([long[0], *short])), *[(axis,) for axis in long[1:]]]


def _steps(conv: Convolution, rank: int, config: CpConfig) -> list[Step]:
    filters = [Step(rank, rank, axes, depthwise=True) for axes in _spaces(conv, config)]
    return [Step(conv.in_channels, rank), *filters, Step(rank, conv.out_channels)]


def _full_rank(conv: Convolution, config: CpConfig) -> int:
    """The components that are enough for every tensor: one for each fibre along its longest side."""
    spaces = _spaces(conv, config)
    sides = [math.prod(conv.kernel_size[axis] for axis in axes) for axes in spaces]
    sides += [conv.in_channels, conv.out_channels]
    return math.prod(sides) // max(sides)


def _rank(conv: Convolution, config: CpConfig) -> int:
    dense = conv.in_channels * conv.out_channels * math.prod(conv.kernel_size)
    each = chain_parameters(conv, _steps(conv, 1, config))
    return chosen_rank(config, lambda rank: rank * each, dense, _full_rank(conv, config))


SUBSTITUTION = CpSubstitution()
