"""One convolution with the original's kernel, whose weight is made from parameters."""

from __future__ import annotations

from torch import Tensor, nn

from seclcompress.cost import LayerCost, convolution_mult_adds
from seclcompress.substitutions.fitting import Fit
from seclcompress.substitutions.shapes.convolve import convolve
from seclcompress.substitutions.shapes.factored import Factored
from seclcompress.substitutions.site import Convolution, Site, convolution_of
from seclcompress.substitutions.structured import StructuredConv


class FullConv(Factored, StructuredConv):
    """A convolution with W = f(parameters) and the original's geometry, groups and bias.

    Subclasses say `factors`, and `make_weight` with the shape of the original's weight. Parameters that
    are no factors go into other groups by `parameter_groups`.

    Args:
        conv: The convolution to stand in for.
    """

    bias: nn.Parameter | None

    def __init__(self, conv: Convolution) -> None:
        StructuredConv.__init__(self, conv)
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone())

    def convolve(self, x: Tensor) -> Tensor:
        """Maps (batch, in_channels, *spatial) to (batch, out_channels, *output_size)."""
        return convolve(x, self.weight().to(x.dtype), self.bias, self, self.groups)

    def to_plain(self) -> nn.Module:
        """Torch's convolution with W multiplied out: it knows no other."""
        return self.to_dense()

    def to_dense(self) -> nn.Module:
        """Torch's convolution with W multiplied out."""
        dense = convolution_of(self.make_weight(), self.bias, self, self.groups)
        return dense.train(self.training)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """All that W is made from."""
        return {"factors": self.factors()}

    def products(self) -> list[Tensor]:
        """W, differentiable; the last pass's where that was kept."""
        return [self.product()]

    def fit(self, layer: nn.Module) -> Fit | None:
        """Comes as near the original's weight as the factors can be brought by gradient descent."""
        assert isinstance(layer.weight, Tensor)
        return Fit(self.fit_weight(layer.weight.detach()), "the weights")


def full_cost(site: Site, parameters: int, *, note: str = "") -> LayerCost:
    """The cost of a full convolution: its parameters are its own, its Mult-Adds the original's.

    Args:
        site: Of the layer that is replaced.
        parameters: That W is made from, the bias left out.
        note: As of `LayerCost`.
    """
    conv = site.convolution
    mult_adds = convolution_mult_adds(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.groups, site.output_positions
    )
    bias = 0 if conv.bias is None else conv.out_channels
    return LayerCost(parameters + bias, {"dense": mult_adds}, note)
