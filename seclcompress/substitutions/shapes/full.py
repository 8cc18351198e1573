"""One convolution with the original's kernel, whose weight is made from parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seclcompress.cost import LayerCost, convolution_mult_adds
from seclcompress.substitutions.fitting import Fit
from seclcompress.substitutions.shapes.convolve import convolve
from seclcompress.substitutions.shapes.factored import Factored, Making
from seclcompress.substitutions.shapes.precision import without_autocast
from seclcompress.substitutions.site import Convolution, Site, convolution_of
from seclcompress.substitutions.structured import StructuredConv


class FullConv(Factored, StructuredConv):
    """A convolution with W = f(parameters) and the original's geometry, groups and bias.

    Subclasses define `factors`, and `make_weight` with the shape of the original's weight. A subclass
    that wants other parameter groups than `factors` overrides `parameter_groups`.

    Args:
        conv: The convolution to replace.
    """

    bias: nn.Parameter | None

    def __init__(self, conv: Convolution) -> None:
        StructuredConv.__init__(self, conv)
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone())

    def convolve(self, x: Tensor) -> Tensor:
        """Maps (batch, in_channels, *spatial) to (batch, out_channels, *output_size)."""
        return convolve(x, self.weight().to(x.dtype), self.bias, self, self.groups)

    def to_plain(self) -> nn.Module:
        """Converts to torch's convolution with W multiplied out, as torch cannot express f."""
        return self.to_dense()

    def to_dense(self) -> nn.Module:
        """Converts to torch's convolution with W multiplied out."""
        with without_autocast(self.factors()[0]):
            dense = convolution_of(self.make_weight(), self.bias, self, self.groups)
        return dense.train(self.training)

    def made_weights(self) -> dict[str, nn.Module]:
        """How W is made."""
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        return {"weight": Making(self, shape, None)}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that W is made from, as the group `factors`."""
        return {"factors": self.factors()}

    def whole_weight(self) -> tuple[Tensor, Tensor | None, int]:
        """W, the bias, and the groups."""
        return self.make_weight(), self.bias, self.groups

    def products(self) -> list[Tensor]:
        """W, differentiable: that of the last pass if it was kept, or a new one."""
        return [self.product()]

    def fit(self, layer: nn.Module) -> Fit | None:
        """Brings W near the original's weight by gradient descent on the factors."""
        assert isinstance(layer.weight, Tensor)
        return Fit(self.fit_weight(layer.weight.detach()), "the weights")

    def measure_fit(self, target: Tensor) -> Fit:
        """How far W is from a target; for families whose `fit` sets the factors in closed form.

        Args:
            target: Shape (out_channels, in_channels ÷ groups, *kernel_size); zeros count as reached.
        """
        self.forget_weight()
        with torch.no_grad():
            size = float(target.double().norm())
            distance = float((self.make_weight().double() - target.double()).norm())
        return Fit(distance / size if size else 0.0, "the weights")


def full_cost(site: Site, parameters: int, *, note: str = "") -> LayerCost:
    """The cost of a full convolution: the family's parameters, the original's Mult-Adds.

    Args:
        site: The site of the layer to replace.
        parameters: Number of parameters that W is made from, without the bias.
        note: See `LayerCost`.
    """
    conv = site.convolution
    mult_adds = convolution_mult_adds(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.groups, site.output_positions
    )
    bias = 0 if conv.bias is None else conv.out_channels
    return LayerCost(parameters + bias, {"dense": mult_adds}, note)
