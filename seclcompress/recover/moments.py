"""What a layer's pictures say about it, in two matrices whose size does not depend on the pictures.

A layer that computes `W x + b` of patches x has the squared error `Σ ‖E x − r‖²`, where E is how far
its weights are from the teacher's, and r what the teacher's weights lack on this layer's inputs. That
sum needs `C = Σ x xᵀ`, `G = Σ r xᵀ` and `Σ ‖r‖²` only. They are added up batch by batch, so activations
are never kept, and a layer is then solved without running it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seclcompress.narrowing import groups_of
from seclcompress.substitutions.shapes.convolve import convolve
from seclcompress.substitutions.site import Convolution


class Moments:
    """Sums over the patches that a layer was shown, each patch with a 1 at its end for the bias.

    Args:
        old: The teacher's layer: a convolution or a Linear.
    """

    def __init__(self, old: Convolution | nn.Linear) -> None:
        self._old = old
        width = patch_width(old) + 1
        empty = old.weight.detach().new_zeros(0, dtype=torch.float64)
        outputs = old.weight.shape[0]
        #: `Σ x xᵀ`, shape (width + 1, width + 1).
        self.inputs = empty.new_zeros(width, width)
        #: `Σ r xᵀ`, shape (out_channels, width + 1); zeros for the teacher's own inputs.
        self.lacking = empty.new_zeros(outputs, width)
        #: `Σ ‖r‖²`.
        self.lacked = 0.0
        #: `Σ ‖y‖²` of the teacher's outputs y about their mean.
        self._squares, self._sums, self._count = 0.0, empty.new_zeros(outputs), 0

    def take(self, inputs: Tensor) -> Moments:
        """Takes the teacher's own inputs at once, with biases left out, in the place of `add`.

        Args:
            inputs: Σ x xᵀ of its patches, about their mean or not, shape (width, width).

        Returns:
            These moments.
        """
        self.inputs[:-1, :-1] = inputs
        theirs = weight_with_bias(self._old.weight, None, groups_of(self._old))
        theirs = theirs.detach().double()[:, :-1]
        self._squares = float(((theirs @ inputs) * theirs).sum())
        return self

    @property
    def energy(self) -> float:
        """The sum of squares of the teacher's outputs about each channel's mean."""
        mean_part = float(self._sums.square().sum()) / max(self._count, 1)
        return max(self._squares - mean_part, 0.0)

    def add(
        self, theirs: Tensor, mine: Tensor | None, positions: int, generator: torch.Generator
    ) -> None:
        """Adds a batch.

        Args:
            theirs: The inputs of the teacher's layer: (batch, channels, *spatial) or (..., features).
            mine: The student's inputs to its replacement, of the same shape; None to learn from the
                teacher's.
            positions: At most so many positions of each picture are drawn.
            generator: Draws them.
        """
        x = patches(theirs, self._old)
        chosen = None
        if x.shape[1] > positions * len(theirs):
            drawn = torch.randperm(x.shape[1], generator=generator)[: positions * len(theirs)]
            chosen = drawn.to(x.device)
            x = x[:, chosen]
        y = self._map(x)
        self._squares += float(y.double().square().sum())
        self._sums += y.double().sum(1)
        self._count += y.shape[1]
        if mine is not None:
            own = patches(mine, self._old)
            own = own if chosen is None else own[:, chosen]
            r = y - self._map(own)
            self.lacking += (r @ own.T).double()
            self.lacked += float(r.double().square().sum())
            x = own
        self.inputs += (x @ x.T).double()

    def _map(self, x: Tensor) -> Tensor:
        return weight_with_bias(self._old.weight, self._old.bias, groups_of(self._old)) @ x

    def error(self, distance: Tensor) -> float:
        """The relative error of a layer whose weights are so far from the teacher's.

        Args:
            distance: Its weights less the teacher's, shape (out_channels, width + 1), as
                `weight_with_bias` gives them.

        Returns:
            The root of the squared error ÷ `energy`; 1 is the error of answering the mean.
        """
        far = distance.detach().double()
        square = float(((far @ self.inputs) * far).sum() - 2 * (far * self.lacking).sum())
        left = max(square + self.lacked, 0.0)
        return math.sqrt(left / self.energy) if self.energy else math.sqrt(left)


def patch_width(old: Convolution | nn.Linear) -> int:
    """The numbers in a patch of all input channels."""
    if isinstance(old, nn.Linear):
        return old.in_features
    return old.in_channels * math.prod(old.kernel_size)


def weight_with_bias(weight: Tensor, bias: Tensor | None, groups: int = 1) -> Tensor:
    """A layer's map of patches as one matrix, differentiable.

    Args:
        weight: Shape (out_channels, in_channels ÷ groups, *kernel_size).
        bias: Shape (out_channels,), or None.
        groups: As in torch.

    Returns:
        Shape (out_channels, in_channels × kernel's size + 1); the last column is the bias.
    """
    rows = weight.shape[0]
    if groups > 1:
        blocks = weight.reshape(groups, rows // groups, -1)
        weight = torch.block_diag(*blocks)
    flat = weight.reshape(rows, -1)
    column = flat.new_zeros(rows, 1) if bias is None else bias.reshape(rows, 1).to(flat.dtype)
    return torch.cat([flat, column], 1)


def patches(x: Tensor, old: Convolution | nn.Linear) -> Tensor:
    """The patches that a layer multiplies by its weight, with a 1 at the end of each.

    Args:
        x: The layer's inputs, (batch, channels, *spatial) or (..., features).
        old: The layer.

    Returns:
        Shape (width + 1, batch × positions).
    """
    if isinstance(old, nn.Linear):
        columns = x.reshape(-1, old.in_features).T
    else:
        size = math.prod(old.kernel_size)
        # Each output of this depthwise convolution copies one place of the patch.
        copies = torch.eye(size, dtype=x.dtype, device=x.device).repeat(old.in_channels, 1)
        copies = copies.reshape(-1, 1, *old.kernel_size)
        unfolded = convolve(x, copies, None, old, groups=old.in_channels)
        columns = unfolded.flatten(2).transpose(0, 1).flatten(1)
    return torch.cat([columns, columns.new_ones(1, columns.shape[1])])
