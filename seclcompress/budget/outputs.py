"""What a layer was shown: enough to say how far any other weights' outputs are from its own.

With E = W − Ŵ, the mean of ‖E x‖² over patches x of the layer's inputs is ⟨E C, E⟩ ÷ n with C = Σ x xᵀ,
whose size does not depend on the images; about the mean μ of the patches it has C − n μ μᵀ. Where C
would be larger than `WIDEST`² numbers, patches are kept instead, as many as fit into the same memory.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from seclcompress.recover.moments import Moments, patch_width, patches
from seclcompress.recover.pairs import WIDEST
from seclcompress.substitutions.site import Convolution

#: Numbers of patches that are unfolded at a time.
_AT_ONCE = 2**24
_DOUBLE, _SINGLE = 8, 4  # bytes


class Inputs:
    """The patches that a layer was shown, as their second moments, or as they are.

    Args:
        layer: The layer.
        positions: At most so many positions of each image are drawn at random.
        centred: Whether patches are taken about their mean, so that errors count which vary from one
            patch to the other, and none that a bias, or the batch norm behind, makes up for.
    """

    def __init__(
        self, layer: Convolution | nn.Linear, positions: int, *, centred: bool = False
    ) -> None:
        self._layer, self._positions, self._centred = layer, positions, centred
        width = patch_width(layer)
        self._sums = torch.zeros(width, dtype=torch.float64)
        self._moments = None if width > WIDEST else torch.zeros(width, width, dtype=torch.float64)
        self._columns: list[Tensor] = []
        self._most = _DOUBLE * WIDEST**2 // (_SINGLE * width)
        self._count = 0

    @staticmethod
    def held(layer: Convolution | nn.Linear) -> int:
        """Bytes that the inputs of a layer take at most."""
        return _DOUBLE * min(patch_width(layer), WIDEST) ** 2

    def add(self, x: Tensor, images: int, generator: torch.Generator) -> None:
        """Adds what the layer was shown for a batch.

        Args:
            x: Shape (batch, channels, *spatial), or (..., features) for a Linear.
            images: Images in the batch; some networks join them with other dimensions.
            generator: Draws the positions.
        """
        if x.dim() < self._layer.weight.dim() and not isinstance(self._layer, nn.Linear):
            x = x[None]  # a convolution also takes one image without a batch
        elements = len(x)
        for piece in x.split(max(1, _AT_ONCE // self._numbers(x))):
            columns = patches(piece, self._layer)[:-1].float()
            most = max(1, round(self._positions * images * len(piece) / elements))
            if columns.shape[1] > most:
                drawn = torch.randperm(columns.shape[1], generator=generator)[:most]
                columns = columns[:, drawn.to(columns.device)]
            self._keep(columns)

    def _numbers(self, x: Tensor) -> int:
        """About how many numbers the patches of one element of a batch have."""
        if isinstance(self._layer, nn.Linear):
            return max(1, x[0].numel())
        positions = math.prod(x.shape[2:]) // math.prod(self._layer.stride)
        return patch_width(self._layer) * max(1, positions)

    def _keep(self, columns: Tensor) -> None:
        if self._moments is not None:
            self._moments += (columns @ columns.T).cpu().double()
            self._sums += columns.double().sum(1).cpu()
            self._count += columns.shape[1]
            return
        columns = columns[:, : self._most - self._count].cpu()
        if columns.shape[1]:  # the images are in random order, so the first ones are a sample
            self._columns.append(columns.clone())
            self._sums += columns.double().sum(1)
            self._count += columns.shape[1]

    @functools.cached_property
    def moments(self) -> Moments | None:
        """What a replacement can be recovered from, once all was added; None if patches are kept."""
        if self._moments is None:
            return None
        mean = self._mean
        about = self._moments - self._count * torch.outer(mean, mean)
        return Moments(self._layer).take(about)

    @property
    def _mean(self) -> Tensor:
        """What is subtracted from each patch, shape (width,)."""
        return self._sums / max(self._count, 1) * self._centred

    def missed(self, far: Tensor) -> float:
        """The mean of ‖E x‖² over the patches; 0 if there were none.

        Args:
            far: E of shape (out, in, *kernel) in float64.
        """
        rows = far.flatten(1)
        if not self._count:
            return 0.0
        if self._moments is not None:
            total = float(((rows @ self._moments) * rows).sum()) / self._count
            total -= float((rows @ self._mean).square().sum())
            return 0.0 if total < 0 else total  # what is not a number stays none
        single, mean = rows.float(), self._mean.float()[:, None]
        squares = [
            float((single @ (each - mean)).double().square().sum()) for each in self._columns
        ]
        return sum(squares) / self._count
