"""A convolution split in two: a depthwise part for space, a pointwise map for channels.

The families whose structure lies in one of these parts share this module. The depthwise part has the
kernel, stride, padding and dilation. A 1×1 convolution needs no depthwise part; its stride becomes a
slice. A grouped convolution becomes a depthwise part and one ungrouped pointwise map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seclcompress.cost import LayerCost, convolution_mult_adds, convolution_parameters
from seclcompress.substitutions.fitting import Fit, split_kernel
from seclcompress.substitutions.shapes.convolve import CONVOLVE, pad
from seclcompress.substitutions.shapes.depthwise import (
    FactoredDepthwise,
    Space,
    new_depthwise,
    plain_depthwise,
)
from seclcompress.substitutions.shapes.factored import Making
from seclcompress.substitutions.shapes.pointwise import FactoredPointwise, Pointwise
from seclcompress.substitutions.shapes.precision import without_autocast
from seclcompress.substitutions.site import Convolution, Site, convolution_of
from seclcompress.substitutions.structured import StructuredConv

#: On a GPU, training multiplies maps of up to so many channels out: launches cost more than Mult-Adds
#: there (benchmarks/gpu.py).
DENSE_ON_GPU_TO = 1024


class SplitConv(StructuredConv):
    """A depthwise part, directly followed by a pointwise map.

    Args:
        conv: The convolution to replace.
        pointwise: The map of the channels.
        depthwise: The part for space; by default a plain depthwise convolution. It is ignored for a
            1×1 convolution.
    """

    depthwise: Space | None

    def __init__(
        self, conv: Convolution, pointwise: Pointwise, depthwise: Space | None = None
    ) -> None:
        super().__init__(conv)
        self.depthwise = None if is_pointwise(conv) else depthwise or new_depthwise(conv)
        self.pointwise = pointwise

    @property
    def executions(self) -> tuple[str, ...]:
        """The executions of the pointwise map."""
        return self.pointwise.executions

    def fused(self, dtype: torch.dtype) -> bool:
        """Whether the pointwise map runs in the fused kernel."""
        return self.pointwise.fused(dtype)

    def convolve(self, x: Tensor) -> Tensor:
        """Maps (batch, in_channels, *spatial) to (batch, out_channels, *output_size)."""
        dimensions = len(self.kernel_size)
        if self.depthwise is not None:
            x, stride = self.depthwise(x), (1,) * dimensions
        else:
            x, stride = pad(x, self, self.kernel_size), self.stride
        if self._runs_dense(x, stride) or x.numel() == 0:  # an FFT of nothing is an error
            weight = self.pointwise.scaled(self.pointwise.weight()).to(x.dtype)
            kernel = weight.reshape(*weight.shape, *[1] * dimensions)
            return CONVOLVE[dimensions](x, kernel, self.pointwise.bias, stride=stride)
        if any(step != 1 for step in stride):
            every: tuple[Any, ...] = (..., *[slice(None, None, step) for step in stride])
            x = x[every]
        return self.pointwise.map_channels(x)

    def _runs_dense(self, x: Tensor, stride: Sequence[int]) -> bool:
        def quickest() -> str:
            if x.is_cuda and max(self.in_channels, self.out_channels) <= DENSE_ON_GPU_TO:
                return "dense"
            sizes = [-(-size // step) for size, step in zip(x.shape[2:], stride, strict=True)]
            return self.pointwise.quickest_in_training(x.shape[0] * math.prod(sizes))

        return self.running(quickest) == "dense"

    def to_plain(self) -> nn.Module:
        """Converts to a depthwise convolution, and a 1×1 one for each of the map's `plain_matrices`."""
        with without_autocast(next(self.parameters())):
            return self._plain(self.pointwise.plain_matrices())

    def to_dense(self) -> nn.Module:
        """Converts to a depthwise and a 1×1 convolution; to the latter alone for a 1×1 original."""
        with without_autocast(next(self.parameters())):
            return self._plain([self.pointwise.make_weight()])

    def _plain(self, matrices: Sequence[Tensor]) -> nn.Module:
        last = len(matrices) - 1
        ones = [1] * len(self.kernel_size)
        steps: list[nn.Module] = [] if self.depthwise is None else [plain_depthwise(self.depthwise)]
        for place, matrix in enumerate(matrices):
            weight = self.pointwise.scaled(matrix) if place == last else matrix
            steps.append(
                convolution_of(
                    weight.reshape(*weight.shape, *ones),
                    self.pointwise.bias if place == last else None,
                    self if not steps else None,  # the first step takes the stride
                )
            )
        whole = steps[0] if len(steps) == 1 else nn.Sequential(*steps)
        return whole.train(self.training)

    def made_weights(self) -> dict[str, nn.Module]:
        """How the filters and the pointwise matrix are made, as far as they are made from factors."""
        made: dict[str, nn.Module] = {}
        pointwise, filters = self.pointwise, self.depthwise
        if isinstance(filters, FactoredDepthwise):
            made["0.weight"] = Making(filters, (self.in_channels, 1, *self.kernel_size), None)
        if isinstance(pointwise, FactoredPointwise):
            shape = (self.out_channels, self.in_channels, *[1] * len(self.kernel_size))
            name = "weight" if filters is None else "1.weight"
            made[name] = Making(pointwise, shape, pointwise.output_scale)
        return made

    def whole_weight(self) -> tuple[Tensor, Tensor | None, int]:
        """The product of the filters and the pointwise matrix, of one group."""
        split = self.split_weight()
        whole = self._matrix() if split is None else split[0][:, :, None] * split[2]
        shape = (self.out_channels, self.in_channels, *self.kernel_size)
        return whole.reshape(shape), self.pointwise.bias, 1

    def split_weight(self) -> tuple[Tensor, Tensor | None, Tensor] | None:
        """The pointwise matrix, its bias and the filters; None for a 1×1 layer, which has no filters."""
        part = self.depthwise
        if part is None:
            return None
        filters = part.make_weight() if isinstance(part, FactoredDepthwise) else part.weight
        return self._matrix(), self.pointwise.bias, filters.reshape(self.in_channels, -1)

    def _matrix(self) -> Tensor:
        return self.pointwise.scaled(self.pointwise.make_weight())

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The factors of both parts, as the group `factors`."""
        factors = self.pointwise.factors()
        if isinstance(self.depthwise, FactoredDepthwise):
            factors = [*self.depthwise.factors(), *factors]
        return {"factors": factors} if factors else {}

    def fit(self, layer: nn.Module) -> Fit:
        """Takes over the depthwise filters and the pointwise matrix nearest to the original's weights.

        A part that is made from factors comes as near as `fit_weight` brings it.
        """
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        space, matrix = split_kernel(layer)
        of = "the pointwise weights"
        if self.depthwise is None:  # the matrix of a grouped 1×1 one has zeros
            return Fit(self.pointwise.fit_weight(matrix * space.reshape(-1)), of)
        with torch.no_grad():
            # The target matrix is scaled to the norm that the factors start with, from where they fit
            # best; the filters take the inverse scale.
            scale = self.pointwise.make_weight().norm() / matrix.norm().clamp(min=1e-30)
            space, matrix = space / scale.clamp(min=1e-30), matrix * scale
            if not isinstance(self.depthwise, FactoredDepthwise):
                self.depthwise.weight.copy_(space)
                if not matrix.any():  # the filters of a layer of zeros are zero, too: that is all
                    return Fit(0.0, of)
                return Fit(self.pointwise.fit_weight(matrix), of)
        left = self.pointwise.fit_weight(matrix)
        if not matrix.any():
            return Fit(left, of)
        lost = self.depthwise.fit_weight(space)
        return Fit(
            max(lost, left), "the depthwise and the pointwise weights, whichever fits worse,"
        )

    def scale_outputs(self, scale: Tensor, shift: Tensor) -> bool:
        """Folds `y -> scale * y + shift` into the pointwise map."""
        self.pointwise.scale_outputs(scale, shift)
        return True

    def products(self) -> list[Tensor]:
        """The filters and the pointwise map's matrix, as far as they are made from factors."""
        filters = self.depthwise
        made = [filters.product()] if isinstance(filters, FactoredDepthwise) else []
        return [*made, *([self.pointwise.product()] if self.pointwise.factors() else [])]

    def keep_product(self, keep: bool) -> None:
        """Sets whether a forward pass in training keeps the tensors that are made from factors."""
        if isinstance(self.depthwise, FactoredDepthwise):
            self.depthwise.keep_product(keep)
        self.pointwise.keep_product(keep)


def is_pointwise(conv: Convolution) -> bool:
    """Whether a convolution's kernel covers one position."""
    return all(size == 1 for size in conv.kernel_size)


def split_cost(
    site: Site,
    parameters: int,
    mult_adds: dict[str, int],
    *,
    filter_parameters: int | None = None,
    note: str = "",
) -> LayerCost:
    """The cost of the depthwise part and the pointwise map together.

    Args:
        site: The site of the layer to replace. The stride lies in the depthwise part, so the pointwise
            map runs at the output's resolution.
        parameters: Number of parameters of the pointwise map, without the bias.
        mult_adds: Mult-Adds of the pointwise map at one position, by execution.
        filter_parameters: Number of parameters of one depthwise filter; by default its kernel's size.
        note: See `LayerCost`.
    """
    conv = site.convolution
    parameters += conv.out_channels if conv.bias is not None else 0
    space = 0
    if not is_pointwise(conv):
        c, kernel = conv.in_channels, conv.kernel_size
        filters = convolution_parameters(c, c, kernel, c, bias=False)
        parameters += filters if filter_parameters is None else c * filter_parameters
        space = convolution_mult_adds(c, c, kernel, c, site.output_positions)
    return LayerCost(
        parameters,
        {way: space + each * site.output_positions for way, each in mult_adds.items()},
        note,
    )
