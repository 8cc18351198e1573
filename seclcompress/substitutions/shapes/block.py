"""Several of torch's own layers in a convolution's place, with nonlinearities between them."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from seclcompress.substitutions.site import Convolution
from seclcompress.substitutions.structured import StructuredConv

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm)


class BlockConv(StructuredConv):
    """A small network of torch's layers with the convolution's input and output shapes.

    It is not affine, so it cannot be multiplied out. It may compute different outputs in training and
    in eval mode.

    Args:
        conv: The convolution to replace.
        body: The layers, on `conv`'s device and in its dtype. One of them has the stride.
    """

    def __init__(self, conv: Convolution, body: nn.Sequential) -> None:
        super().__init__(conv)
        self.body = body

    @property
    def affine(self) -> bool:
        """False, because of the nonlinearities."""
        return False

    def convolve(self, x: Tensor) -> Tensor:
        """Maps (batch, in_channels, *spatial) to (batch, out_channels, *output_size)."""
        y: Tensor = self.body(x)
        return y

    def to_plain(self) -> nn.Sequential:
        """Copies the layers."""
        return copy.deepcopy(self.body).train(self.training)

    def to_dense(self) -> None:
        """Returns None: a nonlinear map cannot be multiplied out."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of the normalisation layers, as the group `norms`."""
        norms = [norm for norm in self.body.modules() if isinstance(norm, _NORMS)]
        return {"norms": [parameter for norm in norms for parameter in norm.parameters()]}
